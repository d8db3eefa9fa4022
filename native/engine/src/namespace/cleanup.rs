//! What the code of a context leaves on its thread beyond its namespace: trace functions, an event
//! loop, suspended generators, threads of its own, context variables. Runs on workers, attached.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyModule};

use super::child_threads;
use crate::interpreter::{self, Interpreter};
use crate::python::code_cache::load;
use crate::python::{audit_hook, fields, thread_state};

/// Each time that what takes the state off a thread has set some anew, by a finalizer, it is taken
/// off again; so often at most.
const MAX_RESETS: usize = 16;

#[cfg(feature = "abi3")]
unsafe extern "C" {
    // Not in the limited API, but exported by every Python since 3.7, with these signatures.
    fn PyContext_New() -> *mut ffi::PyObject;
    fn PyContext_Enter(context: *mut ffi::PyObject) -> std::ffi::c_int;
    fn PyContext_Exit(context: *mut ffi::PyObject) -> std::ffi::c_int;
}
#[cfg(not(feature = "abi3"))]
use ffi::{PyContext_Enter, PyContext_Exit, PyContext_New};

/// Whether there is nothing to undo on the calling thread, in the cases that are quick to tell.
/// Runs no Python code.
pub(crate) fn is_tidy(py: Python<'_>, variables: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; a context has a length, and no error can come up.
    let variables = unsafe { ffi::PyMapping_Size(variables.as_ptr()) };
    variables == 0
        && !audit_hook::may_raise()
        && child_threads::none_started()
        && interpreter::find(py).is_ok_and(|interpreter| {
            !has_thread_state(interpreter, py) && has_no_loops(interpreter.modules.bind(py))
        })
}

/// No event loop is set for the calling thread: nobody has used one so far, on any thread, so that
/// `asyncio` has made no policy; or its own policy knows of none here.
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

/// Attributes of a policy of `asyncio`'s own, so that no Python code runs.
fn has_no_loop(policy: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = policy.py();
    let module = fields::module(&policy.get_type());
    if module.is_none_or(|module| module != "asyncio.unix_events") {
        return Ok(false);
    }
    let local = policy.getattr(intern!(py, "_local"))?;
    Ok(local.getattr(intern!(py, "_loop"))?.is_none())
}

/// Sets what Python keeps for the calling thread as every context finds it. Called before anything
/// of the context goes, since a running loop keeps others from running, and again by
/// `leave_thread`. Finalizers run in it, and each may set something anew.
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
            // An interruption of a finalizer, or a refusal by an audit hook.
            thread_state::note_traced();
        }
    }
    done
}

/// The last that is done for a context: when nothing of it is left whose end could change the
/// thread.
pub(crate) fn leave_thread(py: Python<'_>) -> PyResult<()> {
    let reset = reset_thread(py);
    thread_state::restore();
    reset
}

/// Runs no Python code.
fn has_thread_state(interpreter: &Interpreter, py: Python<'_>) -> bool {
    // SAFETY: asks for a value.
    let ident = unsafe { ffi::PyThread_get_thread_ident() };
    let active = interpreter.active_threads.bind(py);
    thread_state::has_traced()
        || thread_state::has_changed()
        // Code may have given a name to what `threading` has made for this thread.
        || active.contains(ident).unwrap_or(true)
        || has_running_loop(interpreter.modules.bind(py)).unwrap_or(true)
}

fn has_running_loop(modules: &Bound<'_, PyDict>) -> PyResult<bool> {
    let py = modules.py();
    let Some(events) = modules.get_item(intern!(py, "asyncio.events"))? else {
        return Ok(false);
    };
    let events = events.cast_into_exact::<PyModule>()?.dict();
    let find = events.get_item(intern!(py, "_get_running_loop"))?;
    // Another thread is importing it, if there is none yet.
    let Some(find) = find else {
        return Ok(false);
    };
    // Anything else than the function of C runs Python code.
    let find = find.cast_into_exact::<PyCFunction>()?;
    Ok(!find.call0()?.is_none())
}

/// Trace and profile functions belong to the thread, which serves others next.
fn untrace(sys: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = sys.py();
    let none = py.None();
    thread_state::forget_traced();
    // Only if there is one: each call that sets it raises an audit event.
    if !sys.call_method0(intern!(py, "gettrace"))?.is_none() {
        sys.call_method1(intern!(py, "settrace"), (&none,))?;
    }
    if !sys.call_method0(intern!(py, "getprofile"))?.is_none() {
        sys.call_method1(intern!(py, "setprofile"), (&none,))?;
    }
    Ok(())
}

/// An event loop is set for a thread.
pub(crate) fn close_loop(py: Python<'_>) -> PyResult<()> {
    let interpreter = interpreter::find(py)?;
    let modules = interpreter.modules.bind(py);
    if !has_no_loops(modules) && modules.contains(intern!(py, "asyncio"))? {
        let cleanup = interpreter.cleanup.bind(py);
        cleanup.call_method0(intern!(py, "close_loop"))?;
    }
    Ok(())
}

/// `cleanup.py`. Called once.
pub(crate) fn load_module(py: Python<'_>) -> PyResult<Py<PyModule>> {
    load(py, "cleanup", include_str!("cleanup.py")).map(Bound::unbind)
}

/// What closes an event loop.
pub(crate) fn closer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    interpreter::find(py)?
        .cleanup
        .bind(py)
        .getattr(intern!(py, "close"))
}

/// One that is suspended may hold what its `finally` releases, and somebody may hold it.
pub(crate) fn close_generator(item: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = item.py();
    let value = item.get_item(1)?;
    let types = &interpreter::find(py)?.types;
    let class = value.get_type();
    if class.is(&types.generator) || class.is(&types.coroutine) {
        value.call_method0(intern!(py, "close"))?;
    } else if class.is(&types.async_generator) {
        // Its end is a coroutine, which ends without waiting for anything in most cases.
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

/// Threads that the context has started, and that outlive it.
pub(crate) fn left_running(py: Python<'_>) -> PyResult<Vec<String>> {
    child_threads::left_running(interpreter::find(py)?.cleanup.bind(py))
}

/// Context variables, and so the precision of decimals, start with their defaults.
pub(crate) fn enter_variables(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached; a new reference, or null with an exception set.
    let variables = unsafe { Bound::from_owned_ptr_or_err(py, PyContext_New())? };
    // SAFETY: attached, and a context that nobody has entered.
    match unsafe { PyContext_Enter(variables.as_ptr()) } {
        0 => Ok(variables),
        _ => Err(PyErr::fetch(py)),
    }
}

pub(crate) fn leave_variables(variables: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached, and a context; an exception is set when it is not the current one.
    match unsafe { PyContext_Exit(variables.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(variables.py())),
    }
}
