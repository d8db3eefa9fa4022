//! What puts interrupts off in a thread: they would hit another thread, leave a lock taken, or half
//! a module. Called by the thread itself, attached.

use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Instant;

use super::Slot;
use crate::interrupt::{self, Attached, Interrupted};
use crate::station::Station;
use crate::watchdog;

impl Slot {
    /// Puts exceptions off, also one that is pending.
    pub(crate) fn mask(&self, py: Python<'_>) {
        let mut state = self.state();
        state.masks += 1;
        let may_be_pending = std::mem::take(&mut state.raised);
        drop(state);
        // One that has been raised already must not be raised once more, while code cleans up.
        let is_ours = |error: PyErr| error.is_instance_of::<Interrupted>(py);
        if may_be_pending && interrupt::take(py).is_some_and(is_ours) {
            self.state().due = true;
        }
    }

    /// Ends a mask. An exception that was put off is raised at once, if there is no other mask.
    pub(crate) fn unmask(&self, py: Attached<'_>) {
        let mut state = self.state();
        // A task may have begun, and reset the count, in the middle.
        state.masks = state.masks.saturating_sub(1);
        drop(state);
        self.raise(py);
    }

    /// Masks interrupts while a module is loaded. The caller of a job that must stop has its answer
    /// from the watchdog, which waits for the end of the outermost load.
    fn begin_import(&self, py: Python<'_>) {
        self.mask(py);
        self.state().imports += 1;
    }

    fn end_import(&self, py: Attached<'_>) {
        let mut state = self.state();
        state.imports = state.imports.saturating_sub(1);
        let mut must_stop = false;
        if state.imports == 0 {
            // The code has as long to stop as if it had been told so now.
            let now = Instant::now();
            for alarm in state.tasks.iter_mut().filter_map(|w| w.alarm.as_mut()) {
                alarm.restart(now);
                must_stop = true;
            }
        }
        drop(state);
        self.unmask(py);
        if must_stop {
            watchdog::ring();
        }
    }
}

/// Masks interrupts in the calling thread, as long as the value lives.
pub(crate) struct InterruptMask<'py> {
    py: Python<'py>,
    /// `None` for a thread that runs no job: no interrupt is meant for it.
    slot: Option<Arc<Slot>>,
    is_import: bool,
}

impl<'py> InterruptMask<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        Self::with(py, false)
    }

    /// For the load of a module.
    pub(crate) fn import(py: Python<'py>) -> Self {
        Self::with(py, true)
    }

    fn with(py: Python<'py>, is_import: bool) -> Self {
        let slot = Station::existing().map(|station| Arc::clone(&station.slot));
        match &slot {
            Some(slot) if is_import => slot.begin_import(py),
            Some(slot) => slot.mask(py),
            None => {}
        }
        Self {
            py,
            slot,
            is_import,
        }
    }
}

impl Drop for InterruptMask<'_> {
    fn drop(&mut self) {
        match &self.slot {
            Some(slot) if self.is_import => slot.end_import(self.py.into()),
            Some(slot) => slot.unmask(self.py.into()),
            None => {}
        }
    }
}
