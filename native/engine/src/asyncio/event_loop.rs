//! The event loop of a lease, which awaits what a call has returned. Runs on workers, attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tasks;
use crate::interpreter;
use crate::interrupt::{InterruptMask, Interrupted, Thread};
use crate::loop_waker::{LoopWaker, PyLoopWaker};
use crate::namespace::cleanup;
use crate::python::code_cache::load;

/// `event_loop.py`, loaded at the first call.
pub(crate) fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let interpreter = interpreter::find(py)?;
    let load = || {
        // Half of the module is of no use.
        let _mask = InterruptMask::new(py);
        interpreter
            .is_loading_event_loop
            .store(true, Ordering::SeqCst);
        let module = load(py, "event_loop", include_str!("event_loop.py"))?;
        module.setattr("_LoopWaker", py.get_type::<PyLoopWaker>())?;
        module.setattr("_close", cleanup::closer(py)?)?;
        let cancel_unwanted = wrap_pyfunction!(tasks::cancel_unwanted, &module)?;
        module.setattr("_cancel_unwanted", cancel_unwanted)?;
        module.setattr("_Interrupted", py.get_type::<Interrupted>())?;
        module.setattr("_run_loop", wrap_pyfunction!(run_loop, &module)?)?;
        (interpreter.complete_event_loop)(&module)?;
        module.call_method0("watch_loops")?;
        let has_context = wrap_pyfunction!(has_context, &module)?;
        module.call_method1("give_loops", (has_context,))?;
        Ok::<_, PyErr>(module.unbind())
    };
    Ok(interpreter.event_loop.get_or_try_init(py, load)?.bind(py))
}

/// Closes the loop of the context that ends on the calling thread, with the tasks in it.
pub(crate) fn close_loops(py: Python<'_>) -> PyResult<()> {
    match interpreter::find(py)?.event_loop.get(py) {
        Some(module) => module.call_method0(py, intern!(py, "forget")).map(|_| ()),
        None => Ok(()),
    }
}

/// Called at the end of each load of a module, on any thread: from the load of `asyncio` on, its
/// loops are watched.
pub(crate) fn note_load(name: &Bound<'_, PyString>, loaded: &Bound<'_, PyAny>) {
    let py = name.py();
    let Some(interpreter) = interpreter::get().filter(|_| name == "asyncio") else {
        return;
    };
    // One of the last names that it gets.
    let is_whole = || loaded.hasattr(intern!(py, "SelectorEventLoop"));
    if interpreter.event_loop.get(py).is_none()
        && !interpreter.is_loading_event_loop.load(Ordering::SeqCst)
        && is_whole().unwrap_or(false)
        && let Err(error) = module(py)
    {
        error.write_unraisable(py, None);
    }
}

/// Notes the loop that runs in the calling thread from now on, by its waker, or `None`. Returns the
/// waker of the loop that ran before.
#[pyfunction]
fn run_loop(waker: Option<&Bound<'_, PyLoopWaker>>) -> Option<PyLoopWaker> {
    let waker = waker.map(|waker| Arc::clone(&waker.get().0));
    // A thread that is not known is not interrupted.
    Thread::current()?.run_loop(waker).map(PyLoopWaker)
}

/// Wakes the loop of the calling thread.
///
/// # Errors
/// The loop could not be made.
pub fn loop_waker(py: Python<'_>) -> PyResult<Arc<LoopWaker>> {
    let waker = module(py)?.call_method0(intern!(py, "loop_waker"))?;
    let waker = waker.cast::<PyLoopWaker>().map_err(PyErr::from)?;
    Ok(Arc::clone(&waker.get().0))
}

/// Runs the loop of the calling thread until it is woken; or, `once`, what is due in it.
///
/// # Errors
/// What ended the loop: `Interrupted` if an interrupt has hit the loop itself.
pub fn run(py: Python<'_>, once: bool) -> PyResult<()> {
    let module = module(py)?;
    module
        .call_method1(intern!(py, "pump"), (once,))
        .map(|_| ())
}

/// The calling thread is a worker, which serves a context or a call without one.
#[pyfunction]
fn has_context() -> bool {
    interpreter::get().is_some_and(|interpreter| interpreter.host.is_worker())
}

/// A coroutine is awaited, anything else is itself.
pub fn settle<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if is_coroutine(&value) {
        complete(&value)
    } else {
        Ok(value)
    }
}

pub fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    let py = value.py();
    interpreter::find(py).is_ok_and(|found| value.get_type().is(found.types.coroutine.bind(py)))
}

/// The result of an awaitable.
pub fn complete<'py>(awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaitable.py();
    module(py)?.call_method1(intern!(py, "complete"), (awaitable,))
}

/// The `Stream` of an asynchronous iterator, see `event_loop.py`.
pub(super) fn stream<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = iterator.py();
    module(py)?.call_method1(intern!(py, "Stream"), (iterator,))
}
