//! The mask of an event loop: interrupts hit the callbacks of the loop, and never the loop itself. A
//! loop that was hit could lose a callback, or count as running for ever. Used by `event_loop.py` and
//! by the worker on the thread of the loop, attached; blocks as long as the functions that are called.
//!
//! An interrupt that comes between two callbacks, or before the loop runs, wakes the loop, which takes
//! the request and cancels what has to stop.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

use super::thread::Thread;
use crate::python::switch_interval;

/// Masks interrupts in the calling thread, as long as the guard lives, except within calls of
/// [`unmasked`]. A guard within the life of another does nothing.
pub struct LoopMask<'py> {
    py: Python<'py>,
    thread: Option<Arc<Thread>>,
}

impl<'py> LoopMask<'py> {
    #[must_use]
    pub fn new(py: Python<'py>) -> Self {
        let thread = Thread::current().filter(|thread| thread.mask_loop(py));
        Self { py, thread }
    }
}

impl Drop for LoopMask<'_> {
    fn drop(&mut self) {
        if let Some(thread) = &self.thread {
            thread.unmask_loop(self.py.into());
        }
    }
}

/// Calls `function` under a [`LoopMask`].
#[pyfunction]
#[pyo3(signature = (function, *args))]
pub(crate) fn masked<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let _mask = LoopMask::new(function.py());
    function.call1(args)
}

/// Calls a callback of a loop without the mask of the loop.
#[pyfunction]
#[pyo3(signature = (callback, *args))]
pub(crate) fn unmasked<'py>(
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = callback.py();
    switch_interval::answer(py);
    let thread = Thread::current().filter(|thread| thread.begin_callback());
    let result = callback.call1(args);
    if let Some(thread) = thread {
        thread.mask_loop(py);
    }
    result
}

/// Takes the interrupt that the mask of the loop puts off; `False` if there is none. Called by the loop
/// when its waker has woken it; the watchdog asks again for what has not stopped.
#[pyfunction]
pub(crate) fn take_interrupt() -> bool {
    Thread::current().is_some_and(|thread| thread.take_request())
}
