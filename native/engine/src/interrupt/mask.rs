//! Puts interrupts off while an exception would hit another thread, leave a lock taken, or leave half
//! a module. Used by the thread itself, attached.

use pyo3::prelude::*;
use std::sync::Arc;

use super::thread::Thread;
use crate::interpreter;

/// Masks interrupts in the calling thread, as long as the value lives.
pub struct InterruptMask<'py> {
    py: Python<'py>,
    /// `None` for a thread that runs no job: no interrupt is meant for it.
    thread: Option<Arc<Thread>>,
    is_import: bool,
}

impl<'py> InterruptMask<'py> {
    #[must_use]
    pub fn new(py: Python<'py>) -> Self {
        Self::with(py, false)
    }

    /// Masks interrupts while a module is loaded. The caller of a job that must stop has its answer
    /// from the host meanwhile.
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

/// Called by `patches.py` before and after a thread is started, by the thread that starts it.
/// COMPAT(3.11): the state of a thread that is about to begin bears the identity of the one that
/// starts it, and `PyThreadState_SetAsyncExc` would find it first.
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
