//! Coroutines: the worker awaits what a call has returned. Runs on workers, attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyModule};
use std::sync::Arc;

use crate::bell::{self, PyBell};
use crate::flights::TaskJob;
use crate::interrupt::Interrupted;
use crate::job::Job;
use crate::slot::InterruptMask;
use crate::{erlang, flights, namespace, tidy};

/// `coroutines.py`, which imports `asyncio`: loaded when there is a first coroutine.
static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
/// `types.CoroutineType`.
static COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Finds what a coroutine is. Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    COROUTINE.import(py, "types", "CoroutineType").map(|_| ())
}

pub(crate) fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let load = || {
        // Half of it is of no use.
        let _mask = InterruptMask::new(py);
        let source = include_str!("coroutines.py");
        let module = namespace::load(py, "coroutines", source)?;
        module.setattr("_Bell", py.get_type::<PyBell>())?;
        module.setattr("_close", tidy::closer(py)?)?;
        module.setattr("_tend_flights", wrap_pyfunction!(flights::tend, &module)?)?;
        module.setattr("_Interrupted", py.get_type::<Interrupted>())?;
        module.setattr("_attend", wrap_pyfunction!(bell::attend, &module)?)?;
        module.setattr("_start_call", erlang::start_call_function(&module)?)?;
        module.call_method0("watch_loops")?;
        Ok::<_, PyErr>(module.unbind())
    };
    Ok(MODULE.get_or_try_init(py, load)?.bind(py))
}

/// The context of the calling thread ends, and its loop with the tasks in it.
pub(crate) fn forget(py: Python<'_>) -> PyResult<()> {
    let closed = match MODULE.get(py) {
        Some(module) => module.call_method0(py, intern!(py, "forget")).map(|_| ()),
        None => Ok(()),
    };
    flights::forget();
    closed
}

/// A socket is being made: if it is the first event loop's, which wakes itself by one, it is time to
/// watch loops. Called by the audit hook, on any thread.
pub(crate) fn hear_of_socket(py: Python<'_>) {
    if MODULE.get(py).is_some() {
        return;
    }
    let is_loaded = || {
        let modules = py
            .import(intern!(py, "sys"))?
            .getattr(intern!(py, "modules"))?;
        let asyncio = modules.call_method1(intern!(py, "get"), (intern!(py, "asyncio"),))?;
        // One of the last names that it gets.
        asyncio.hasattr(intern!(py, "run"))
    };
    let loaded: PyResult<bool> = is_loaded();
    if loaded.unwrap_or(false)
        && let Err(error) = module(py)
    {
        error.write_unraisable(py, None);
    }
}

/// The job of the running task, if it belongs to one.
pub(crate) fn job(py: Python<'_>) -> Option<Arc<Job>> {
    let job = module(py).ok()?.call_method0(intern!(py, "job")).ok()?;
    Some(Arc::clone(&job.cast::<TaskJob>().ok()?.get().0))
}

/// A coroutine is awaited, anything else is itself.
pub(crate) fn settle<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if is_coroutine(&value) {
        complete(&value)
    } else {
        Ok(value)
    }
}

pub(crate) fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    let py = value.py();
    COROUTINE
        .get(py)
        .is_some_and(|class| value.get_type().is(class.bind(py)))
}

/// The result of an awaitable.
pub(crate) fn complete<'py>(awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaitable.py();
    module(py)?.call_method1(intern!(py, "complete"), (awaitable,))
}

/// Appends items of an asynchronous iterator; `true` at its end.
pub(crate) fn next_items(
    iterator: &Bound<'_, PyAny>,
    items: &Bound<'_, PyList>,
    count: usize,
) -> PyResult<bool> {
    let py = iterator.py();
    let args = (iterator, items, count);
    module(py)?
        .call_method1(intern!(py, "next_items"), args)?
        .extract()
}
