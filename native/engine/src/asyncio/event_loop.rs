//! The event loop of a lease, from Rust: the functions of `event_loop.py`. Called on workers, attached;
//! `run` and `complete` block in the loop.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tasks;
use crate::host::Wake;
use crate::interpreter;
use crate::interrupt::{InterruptMask, Interrupted, Thread, masked, take_interrupt, unmasked};
use crate::loop_waker::{LoopWaker, PyLoopWaker};
use crate::namespace::cleanup;
use crate::python::code_cache::load;

/// Returns the module of `event_loop.py`, which is loaded by the first call.
pub(crate) fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let interpreter = interpreter::find(py)?;
    let is_loading = &interpreter.is_loading_event_loop;
    let load = || {
        // An interrupted load would leave a part of the module, and `asyncio` without the patches.
        let _mask = InterruptMask::new(py);
        is_loading.store(true, Ordering::SeqCst);
        let loaded = load_module(py, interpreter.complete_event_loop);
        if loaded.is_err() {
            // The next load of `asyncio` tries again.
            is_loading.store(false, Ordering::SeqCst);
        }
        loaded
    };
    Ok(interpreter.event_loop.get_or_try_init(py, load)?.bind(py))
}

fn load_module(
    py: Python<'_>,
    complete: fn(&Bound<'_, PyModule>) -> PyResult<()>,
) -> PyResult<Py<PyModule>> {
    let module = load(py, "event_loop", include_str!("event_loop.py"))?;
    module.setattr("_LoopWaker", py.get_type::<PyLoopWaker>())?;
    module.setattr("_close", cleanup::closer(py)?)?;
    let cancel_unwanted = wrap_pyfunction!(tasks::cancel_unwanted, &module)?;
    module.setattr("_cancel_unwanted", cancel_unwanted)?;
    module.setattr("_Interrupted", py.get_type::<Interrupted>())?;
    let set_waker = wrap_pyfunction!(set_running_waker, &module)?;
    module.setattr("_set_running_waker", set_waker)?;
    module.setattr("_masked", wrap_pyfunction!(masked, &module)?)?;
    module.setattr("_unmasked", wrap_pyfunction!(unmasked, &module)?)?;
    let take_interrupt = wrap_pyfunction!(take_interrupt, &module)?;
    module.setattr("_take_interrupt", take_interrupt)?;
    complete(&module)?;
    let streams = load(py, "async_stream", include_str!("async_stream.py"))?;
    streams.setattr("_event_loop", &module)?;
    module.setattr("Stream", streams.getattr("Stream")?)?;
    module.call_method0("watch_loops")?;
    let has_context = wrap_pyfunction!(has_context, &module)?;
    module.call_method1("provide_context_loops", (has_context,))?;
    Ok(module.unbind())
}

/// Closes the loop of the context that ends on the calling thread, and cancels its tasks. Called by
/// the worker; code of the context runs.
pub(crate) fn close_loops(py: Python<'_>) -> PyResult<()> {
    match interpreter::find(py)?.event_loop.get(py) {
        Some(module) => module
            .call_method0(py, intern!(py, "close_context_loop"))
            .map(|_| ()),
        None => Ok(()),
    }
}

/// Loads `event_loop.py` once code has loaded `asyncio`, so that all its loops can be interrupted.
/// Called at the end of each load of a module, on any thread, attached, with interrupts masked.
pub(crate) fn note_load(name: &Bound<'_, PyString>, loaded: &Bound<'_, PyAny>) {
    let py = name.py();
    let Some(interpreter) = interpreter::get().filter(|_| name == "asyncio") else {
        return;
    };
    // One of the last names that the load of `asyncio` defines.
    let is_whole = || loaded.hasattr(intern!(py, "SelectorEventLoop"));
    if interpreter.event_loop.get(py).is_none()
        && !interpreter.is_loading_event_loop.load(Ordering::SeqCst)
        && is_whole().unwrap_or(false)
        && let Err(error) = module(py)
    {
        error.write_unraisable(py, None);
    }
}

/// Sets the waker of the loop that runs in the calling thread, or `None` if none runs any more.
/// Returns the waker of the loop around it. Called by `event_loop.py`.
#[pyfunction]
fn set_running_waker(waker: Option<&Bound<'_, PyLoopWaker>>) -> Option<PyLoopWaker> {
    let waker = waker.map(|waker| Arc::clone(&waker.get().0));
    if let Some(interpreter) = interpreter::get() {
        let waker = waker.clone().map(|waker| waker as Arc<dyn Wake>);
        interpreter.host.loop_runs(waker);
    }
    // A thread without a `Thread` is never interrupted.
    Thread::current()?.set_loop_waker(waker).map(PyLoopWaker)
}

/// Returns the waker of the loop of the calling thread; the loop is made if there is none.
///
/// # Errors
/// The loop could not be made.
pub fn loop_waker(py: Python<'_>) -> PyResult<Arc<LoopWaker>> {
    let waker = module(py)?.call_method0(intern!(py, "loop_waker"))?;
    let waker = waker.cast::<PyLoopWaker>().map_err(PyErr::from)?;
    Ok(Arc::clone(&waker.get().0))
}

/// Runs the loop of the calling thread until its waker wakes it; if `once`, runs the callbacks that
/// are due, and returns.
///
/// # Errors
/// The exception that has ended the loop: `Interrupted` if an interrupt has hit the loop itself.
pub fn run(py: Python<'_>, once: bool) -> PyResult<()> {
    let module = module(py)?;
    module
        .call_method1(intern!(py, "run_until_woken"), (once,))
        .map(|_| ())
}

/// Whether the calling thread is a worker, and so serves a context or an unbound call.
#[pyfunction]
fn has_context() -> bool {
    interpreter::get().is_some_and(|interpreter| interpreter.host.is_worker())
}

/// Awaits `value` if it is a coroutine, and returns the result; returns anything else as it is.
///
/// # Errors
/// The exception of the coroutine.
pub fn settle<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if is_coroutine(&value) {
        complete(&value)
    } else {
        Ok(value)
    }
}

/// Whether `value` is a coroutine of an `async def`. Runs no code of a program.
pub fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    let py = value.py();
    interpreter::find(py).is_ok_and(|found| value.get_type().is(found.types.coroutine.bind(py)))
}

/// Runs the loop of the calling thread until `awaitable` is done, and returns its result.
///
/// # Errors
/// The exception of the awaitable, or `Interrupted`.
pub fn complete<'py>(awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaitable.py();
    module(py)?.call_method1(intern!(py, "complete"), (awaitable,))
}

/// Makes the `Stream` of an asynchronous iterator, see `async_stream.py`.
pub(super) fn stream<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = iterator.py();
    module(py)?.call_method1(intern!(py, "Stream"), (iterator,))
}
