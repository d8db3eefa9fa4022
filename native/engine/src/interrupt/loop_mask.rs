//! The mask of an event loop: interrupts hit the callbacks of the loop, and never the loop itself,
//! which would lose a callback, or count as running for ever. Called by `event_loop.py` on the thread
//! of the loop, attached; blocks as long as the functions that it calls.
//!
//! An interrupt that comes between two callbacks wakes the loop, which takes the request and stops.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::thread::Thread;

/// Calls `function` with interrupts masked, except within calls of [`unmasked`].
#[pyfunction]
#[pyo3(signature = (function, *args))]
pub(crate) fn masked<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let thread = Thread::current().filter(|thread| thread.mask_loop(py));
    let result = function.call1(args);
    if let Some(thread) = thread {
        thread.unmask_loop(py.into());
    }
    result
}

/// Calls a callback of a loop without the mask of the loop.
#[pyfunction]
#[pyo3(signature = (callback, *args))]
pub(crate) fn unmasked<'py>(
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = callback.py();
    let thread = Thread::current().filter(|thread| thread.unmask_loop(py.into()));
    let result = callback.call1(args);
    if let Some(thread) = thread {
        thread.mask_loop(py);
    }
    result
}

/// Takes the interrupt that the mask of the loop puts off; `False` if there is none. The caller ends
/// what the thread is in the middle of.
#[pyfunction]
pub(crate) fn take_interrupt() -> bool {
    Thread::current().is_some_and(|thread| thread.take_request())
}
