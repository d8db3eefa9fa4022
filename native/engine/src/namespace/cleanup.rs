//! The clean-up of a worker's thread at the end of a context, beyond the namespace: trace functions,
//! the event loop, suspended generators, threads, context variables.
//!
//! Called by [`super::Namespace`] on the worker, attached. Finalizers and other code of the context may
//! run, watched; it blocks as long as they do.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyModule};

use super::child_threads;
use crate::interpreter::{self, Interpreter};
use crate::python::code_cache::load;
use crate::python::{audit_hook, fields, thread_state};

/// How often the state of a thread is reset: a finalizer that runs in a reset may set some of it anew.
const MAX_RESETS: usize = 16;

#[cfg(feature = "abi3")]
unsafe extern "C" {
    // The limited API lacks these; every Python since 3.7 exports them, with these signatures.
    fn PyContext_New() -> *mut ffi::PyObject;
    fn PyContext_Enter(context: *mut ffi::PyObject) -> std::ffi::c_int;
    fn PyContext_Exit(context: *mut ffi::PyObject) -> std::ffi::c_int;
}
#[cfg(not(feature = "abi3"))]
use ffi::{PyContext_Enter, PyContext_Exit, PyContext_New};

/// Whether the calling thread needs no clean-up; `false` also if that takes Python code to find out.
/// `variables` are the context variables of the namespace. Runs no Python code.
pub(crate) fn is_clean(py: Python<'_>, variables: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; a `contextvars.Context` has a length, and the call cannot fail for it.
    let variables = unsafe { ffi::PyMapping_Size(variables.as_ptr()) };
    variables == 0
        && !audit_hook::may_raise()
        && child_threads::none_started()
        && interpreter::find(py).is_ok_and(|interpreter| {
            !has_thread_state(interpreter, py) && has_no_loops(interpreter.modules.bind(py))
        })
}

/// Whether no event loop is set for the calling thread: `asyncio` has made no policy, since no thread
/// has used a loop, or its own policy has no loop for this thread. Runs no Python code.
fn has_no_loops(modules: &Bound<'_, PyDict>) -> bool {
    let py = modules.py();
    let Ok(events) = modules.get_item(intern!(py, "asyncio.events")) else {
        return false;
    };
    let Some(events) = events else {
        return true;
    };
    let Ok(events) = events.cast_into_exact::<PyModule>() else {
        return false;
    };
    let Ok(Some(policy)) = events.dict().get_item(intern!(py, "_event_loop_policy")) else {
        return false;
    };
    policy.is_none() || has_no_loop(&policy).unwrap_or(false)
}

/// Whether `policy` is one of `asyncio` itself, whose attributes are read without Python code, and has
/// no loop for the calling thread.
fn has_no_loop(policy: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = policy.py();
    let module = fields::module(&policy.get_type());
    if module.is_none_or(|module| module != "asyncio.unix_events") {
        return Ok(false);
    }
    let local = policy.getattr(intern!(py, "_local"))?;
    Ok(local.getattr(intern!(py, "_loop"))?.is_none())
}

/// Resets the state of the calling thread, in the system and in Python, to that at the begin of a
/// context. Called before the objects of the context are dropped, since a loop that is marked as
/// running keeps others from running, and again by `leave_thread`. Finalizers run.
///
/// # Errors
/// A part could not be reset: an interrupt was raised, or an audit hook refuses.
pub(crate) fn reset_thread(py: Python<'_>) -> PyResult<()> {
    let interpreter = interpreter::find(py)?;
    let (sys, cleanup) = (interpreter.sys.bind(py), interpreter.cleanup.bind(py));
    let forget = |()| cleanup.call_method0(intern!(py, "forget_thread"));
    let mut done = Ok(());
    for _ in 0..MAX_RESETS {
        if !has_thread_state(interpreter, py) {
            return Ok(());
        }
        thread_state::restore();
        done = untrace(sys).and_then(forget).map(|_| ());
        if done.is_err() {
            // Makes the next round, and the next context, try again.
            thread_state::note_traced();
        }
    }
    done
}

/// Resets the thread for the last time. Called at the very end of a context, when no object of it is
/// left whose finalizer could change the thread.
///
/// # Errors
/// Those of `reset_thread`.
pub(crate) fn leave_thread(py: Python<'_>) -> PyResult<()> {
    let reset = reset_thread(py);
    thread_state::restore();
    reset
}

/// Whether the calling thread may have state that has to be reset. Runs no Python code.
fn has_thread_state(interpreter: &Interpreter, py: Python<'_>) -> bool {
    // SAFETY: takes no argument.
    let ident = unsafe { ffi::PyThread_get_thread_ident() };
    let active = interpreter.active_threads.bind(py);
    thread_state::has_traced()
        || thread_state::has_changed()
        // `threading` has made a `Thread` object for this thread, to which code may have given a name.
        || active.contains(ident).unwrap_or(true)
        || has_running_loop(interpreter.modules.bind(py)).unwrap_or(true)
}

/// Whether an event loop is marked as running in the calling thread. Runs no Python code.
fn has_running_loop(modules: &Bound<'_, PyDict>) -> PyResult<bool> {
    let py = modules.py();
    let Some(events) = modules.get_item(intern!(py, "asyncio.events"))? else {
        return Ok(false);
    };
    let events = events.cast_into_exact::<PyModule>()?.dict();
    let find = events.get_item(intern!(py, "_get_running_loop"))?;
    // Missing while another thread still imports the module.
    let Some(find) = find else {
        return Ok(false);
    };
    // Only a function in C runs no Python code.
    let find = find.cast_into_exact::<PyCFunction>()?;
    Ok(!find.call0()?.is_none())
}

/// Removes the trace and the profile function of the calling thread, which serves other contexts next.
fn untrace(sys: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = sys.py();
    let none = py.None();
    thread_state::forget_traced();
    // Each call of a setter raises an audit event, so the setters are called only if need be.
    if !sys.call_method0(intern!(py, "gettrace"))?.is_none() {
        sys.call_method1(intern!(py, "settrace"), (&none,))?;
    }
    if !sys.call_method0(intern!(py, "getprofile"))?.is_none() {
        sys.call_method1(intern!(py, "setprofile"), (&none,))?;
    }
    Ok(())
}

/// Closes the event loop that is set for the calling thread, after cancelling its tasks.
pub(crate) fn close_loop(py: Python<'_>) -> PyResult<()> {
    let interpreter = interpreter::find(py)?;
    let modules = interpreter.modules.bind(py);
    if !has_no_loops(modules) && modules.contains(intern!(py, "asyncio"))? {
        let cleanup = interpreter.cleanup.bind(py);
        cleanup.call_method0(intern!(py, "close_loop"))?;
    }
    Ok(())
}

/// Makes the module of `cleanup.py`. Called once, by `start`.
pub(crate) fn load_module(py: Python<'_>) -> PyResult<Py<PyModule>> {
    load(py, "cleanup", include_str!("cleanup.py")).map(Bound::unbind)
}

/// Returns the function that closes an event loop, for `event_loop.py`.
pub(crate) fn closer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    interpreter::find(py)?
        .cleanup
        .bind(py)
        .getattr(intern!(py, "close"))
}

/// Closes the value of an entry of the namespace if it is a generator or a coroutine, so that the
/// `finally` blocks of a suspended one run even if another object refers to it.
pub(crate) fn close_generator(item: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = item.py();
    let value = item.get_item(1)?;
    let types = &interpreter::find(py)?.types;
    let class = value.get_type();
    if class.is(&types.generator) || class.is(&types.coroutine) {
        value.call_method0(intern!(py, "close"))?;
    } else if class.is(&types.async_generator) {
        // `aclose` returns an awaitable, which in most cases ends at its first step: no loop runs it.
        let closing = value.call_method0(intern!(py, "aclose"))?;
        let ended = closing.call_method1(intern!(py, "send"), (py.None(),));
        closing.call_method0(intern!(py, "close"))?;
        ended.map(|_| ()).or_else(|error| {
            let is_end = error.is_instance_of::<PyStopIteration>(py);
            if is_end { Ok(()) } else { Err(error) }
        })?;
    }
    Ok(())
}

/// Returns the names of the threads that the context has started, and that go on after it.
pub(crate) fn left_running(py: Python<'_>) -> PyResult<Vec<String>> {
    child_threads::left_running(interpreter::find(py)?.cleanup.bind(py))
}

/// Enters a new `contextvars.Context` on the calling thread, so that context variables, as the
/// precision of decimals, have their defaults; returns it.
pub(crate) fn enter_variables(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached; a new reference, or null with an exception set.
    let variables = unsafe { Bound::from_owned_ptr_or_err(py, PyContext_New())? };
    // SAFETY: attached, and a new context, which no thread has entered.
    match unsafe { PyContext_Enter(variables.as_ptr()) } {
        0 => Ok(variables),
        _ => Err(PyErr::fetch(py)),
    }
}

/// Leaves the context that `enter_variables` has entered.
pub(crate) fn leave_variables(variables: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached, and a context; if it is not the current one, an exception is set.
    match unsafe { PyContext_Exit(variables.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(variables.py())),
    }
}
