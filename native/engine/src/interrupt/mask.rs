//! Masks interrupts while an exception would hit another thread, or leave a lock taken or a module
//! half loaded. Used by the thread itself, attached; blocks on nothing.

use pyo3::prelude::*;
use std::sync::Arc;

use super::thread::Thread;
use crate::interpreter;

/// Masks interrupts in the calling thread, as long as the guard lives. When the last guard is dropped,
/// an exception that was masked is raised.
pub struct InterruptMask<'py> {
    py: Python<'py>,
    /// `None` for a thread that runs no job, and so is never interrupted.
    thread: Option<Arc<Thread>>,
    /// Whether the guard is that of the load of a module.
    is_import: bool,
}

impl<'py> InterruptMask<'py> {
    #[must_use]
    pub fn new(py: Python<'py>) -> Self {
        Self::with(py, false)
    }

    /// Masks interrupts while a module is loaded. The host replies to the caller of a job that must
    /// stop before the load ends.
    pub(super) fn import(py: Python<'py>) -> Self {
        Self::with(py, true)
    }

    fn with(py: Python<'py>, is_import: bool) -> Self {
        let thread = Thread::current();
        if let Some(thread) = &thread {
            thread.mask(py);
            if is_import {
                thread.begin_import();
            }
        }
        Self {
            py,
            thread,
            is_import,
        }
    }
}

impl Drop for InterruptMask<'_> {
    fn drop(&mut self) {
        let Some(thread) = &self.thread else { return };
        let host = interpreter::get().map(|interpreter| &interpreter.host);
        let host = host.filter(|_| self.is_import && thread.is_outermost_import());
        if let Some(host) = host {
            host.import_ends();
        }
        if self.is_import {
            thread.end_import();
        }
        thread.unmask(self.py.into());
        if let Some(host) = host {
            host.import_ended();
        }
    }
}

/// Masks interrupts in the calling thread if `masked`, or unmasks them. Called by `patches.py` before
/// and after the calling thread starts another one. COMPAT(3.11): the state of the new thread has the
/// identity of the calling one until it begins, and `PyThreadState_SetAsyncExc` would find it first.
#[pyfunction]
pub(crate) fn mask_interrupts(py: Python<'_>, masked: bool) {
    if let Some(thread) = Thread::current() {
        if masked {
            thread.mask(py);
        } else {
            thread.unmask(py.into());
        }
    }
}
