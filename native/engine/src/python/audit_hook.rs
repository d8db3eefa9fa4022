//! The audit hook of the interpreter (PEP 578). Refuses to fork the VM and to send it signals, and
//! records the calls whose effects have to be undone at the end of a context.
//!
//! Called by Python on the thread that raises the event, attached; blocks on nothing. The frequent
//! events, of imports and opened files, cost one comparison of the name of the event.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::sync::atomic::Ordering;

use super::thread_state;
use crate::interpreter::{self, Audit};

const FORK: &str = "os.fork() would copy the whole VM into the child: use subprocess, or \
                    multiprocessing with the start method 'spawn'";
pub(crate) const SIGNAL_REFUSED: &str = "the signal would hit the VM that this code runs in";

type Hook = unsafe extern "C" fn(*const c_char, *mut ffi::PyObject, *mut c_void) -> c_int;

unsafe extern "C" {
    /// The limited API lacks this; every Python since 3.8 exports it, with this signature.
    fn PySys_AddAuditHook(hook: Hook, data: *mut c_void) -> c_int;
}

/// Counts that code sets a trace or profile function for all threads. Called by `patches.py` before
/// that.
#[pyfunction]
pub(crate) fn note_traced() {
    if let Some(interpreter) = interpreter::get() {
        let traced_all = &interpreter.audit.traced_all;
        traced_all.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an exception that the interrupter has not raised may be pending in some thread.
pub(crate) fn may_raise() -> bool {
    let audit = interpreter::get().map(|interpreter| &interpreter.audit);
    audit.is_none_or(|audit| audit.may_raise.load(Ordering::Relaxed))
}

/// The modules by which Python code calls C functions, as `PyThreadState_SetAsyncExc`.
const C_CALLERS: [&str; 2] = ["_ctypes", "_cffi_backend"];

/// Installs the hook. Called once, by `start` on Python's main thread, after the interpreter's data
/// are set.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let Audit { may_raise, .. } = &interpreter::find(py)?.audit;
    // A `.pth` file may have imported one of them when Python started.
    for name in C_CALLERS {
        if interpreter::find(py)?.modules.bind(py).contains(name)? {
            may_raise.store(true, Ordering::Relaxed);
        }
    }
    // SAFETY: the hook is a function of this library, which is never unloaded.
    if unsafe { PySys_AddAuditHook(hook, std::ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(py))
    }
}

/// The C function of the hook; returns -1 with an exception set to refuse the event.
unsafe extern "C" fn hook(
    event: *const c_char,
    args: *mut ffi::PyObject,
    _data: *mut c_void,
) -> c_int {
    // A panic must not unwind into C. `handle_event` has no state that a panic could leave broken.
    let handled = catch_unwind(|| {
        // SAFETY: Python passes a NUL-terminated name and a tuple, both alive for the length of
        // the call, with the GIL held; also while a thread state is being made, where PyO3 could
        // not attach.
        unsafe { handle_event(Python::assume_attached(), CStr::from_ptr(event), args) }
    });
    match handled {
        Ok(Err(error)) => {
            // SAFETY: Python calls an audit hook with the GIL held.
            error.restore(unsafe { Python::assume_attached() });
            -1
        }
        Ok(Ok(())) | Err(_) => 0,
    }
}

/// Handles an event; an error refuses it.
///
/// # Safety
/// `args` is a tuple.
unsafe fn handle_event(py: Python<'_>, event: &CStr, args: *mut ffi::PyObject) -> PyResult<()> {
    // SAFETY: a tuple, which the caller keeps alive.
    let args = || unsafe { Bound::from_borrowed_ptr(py, args) };
    match event.to_bytes() {
        b"os.fork" | b"os.forkpty" => Err(PyRuntimeError::new_err(FORK)),
        b"os.kill" | b"os.killpg" | b"signal.pthread_kill" => check_signal(event, &args()),
        b"sys.settrace"
        | b"sys.setprofile"
        | b"sys.set_asyncgen_hook_firstiter"
        | b"sys.set_asyncgen_hook_finalizer" => {
            thread_state::note_traced();
            Ok(())
        }
        b"import" => {
            let name = args().get_item(0)?;
            if let Ok(name) = name.cast::<PyString>()
                && C_CALLERS.iter().any(|caller| name == *caller)
                && let Some(interpreter) = interpreter::get()
            {
                interpreter.audit.may_raise.store(true, Ordering::Relaxed);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Refuses a signal to the VM, its threads, or its process group, in which Erlang's child processes
/// are. Signal 0 is only a test.
fn check_signal(event: &CStr, args: &Bound<'_, PyAny>) -> PyResult<()> {
    let (target, signal): (i64, i64) = args.extract()?;
    // SAFETY: both take no argument.
    let (pid, group) = unsafe { (libc::getpid(), libc::getpgrp()) };
    let (pid, group) = (i64::from(pid), i64::from(group));
    let owns_process = interpreter::get().is_some_and(|interpreter| interpreter.owns_process);
    let hits = match event.to_bytes() {
        b"os.kill" if owns_process => target == 0 || target == -1 || target == -group,
        b"os.kill" => target == pid || target == 0 || target == -1 || target == -group,
        b"os.killpg" => target == group || target == 0,
        _ => !owns_process,
    };
    if hits && signal != 0 {
        return Err(PyRuntimeError::new_err(SIGNAL_REFUSED));
    }
    Ok(())
}
