//! Coroutines: the worker awaits what a call has returned. Runs on workers, attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bell::{self, PyBell};
use crate::flights::TaskJob;
use crate::interrupt::Interrupted;
use crate::job::Job;
use crate::slot::InterruptMask;
use crate::station::Station;
use crate::{erlang, flights, namespace, tidy};

/// `coroutines.py`, which imports `asyncio`: loaded when there is a first coroutine.
static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
/// Some thread loads it, and so imports `asyncio`.
static IS_LOADING: AtomicBool = AtomicBool::new(false);
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
        IS_LOADING.store(true, Ordering::SeqCst);
        let source = include_str!("coroutines.py");
        let module = namespace::load(py, "coroutines", source)?;
        module.setattr("_Bell", py.get_type::<PyBell>())?;
        module.setattr("_close", tidy::closer(py)?)?;
        module.setattr("_tend_flights", wrap_pyfunction!(flights::tend, &module)?)?;
        module.setattr("_Interrupted", py.get_type::<Interrupted>())?;
        module.setattr("_attend", wrap_pyfunction!(bell::attend, &module)?)?;
        module.setattr("_start_call", erlang::start_call_function(&module)?)?;
        module.call_method0("watch_loops")?;
        let has_context = wrap_pyfunction!(has_context, &module)?;
        module.call_method1("give_loops", (has_context,))?;
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

/// A load of `asyncio` has ended, on any thread: if the module is whole, its loops are watched from
/// now on.
pub(crate) fn note_asyncio(py: Python<'_>, asyncio: &Bound<'_, PyAny>) {
    // One of the last names that it gets.
    let is_whole = || asyncio.hasattr(intern!(py, "SelectorEventLoop"));
    if MODULE.get(py).is_none()
        && !IS_LOADING.load(Ordering::SeqCst)
        && is_whole().unwrap_or(false)
        && let Err(error) = module(py)
    {
        error.write_unraisable(py, None);
    }
}

/// The calling thread is a worker, which serves a context or a call without one.
#[pyfunction]
fn has_context() -> bool {
    Station::existing().is_some_and(|station| station.is_worker())
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

/// The `Stream` of an asynchronous iterator, see `coroutines.py`.
pub(crate) fn stream<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = iterator.py();
    module(py)?.call_method1(intern!(py, "Stream"), (iterator,))
}
