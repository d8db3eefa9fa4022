//! Raises an exception in a thread that runs Python, and breaks its system calls. Called by the
//! interrupter, the releaser and the thread itself, attached; blocks on nothing.
//!
//! COMPAT(3.12): a pending exception sets one flag of the whole interpreter, which only the delivery
//! of an exception clears (`async_exc` in `struct _pending_calls`). While the flag is set every
//! thread takes the slow path between its instructions; in 3.11 a thread with a trace function makes
//! no progress at all, since `DO_TRACING` starts over. So after an exception was withdrawn, the
//! releaser raises and swallows another; and in an abandoned thread, which may be blocked for hours,
//! an exception is pending only for a short time, now and then. The interrupter cannot swallow the
//! exception itself: it runs no Python code, in which a finalizer could run.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::{CStr, c_int, c_long};
use std::marker::PhantomData;
use std::{io, mem, ptr};

use crate::interpreter::{self, Interrupts};
use crate::notify::Notify;
use crate::python::code_cache::evaluate;
use crate::released;

pyo3::create_exception!(
    erlang,
    Interrupted,
    PyBaseException,
    "The call has timed out, was interrupted, or has lost its caller or its context."
);

/// The signal that breaks system calls. Its default is to be ignored, neither the BEAM nor Python
/// uses it, and libraries expect it without a cause. Go preempts with it for these reasons (proposal
/// 24543, non-cooperative goroutine preemption).
const SIGNAL: c_int = libc::SIGURG;

/// Proof that the calling thread is attached, for the interrupter, which has no `Python`.
#[derive(Clone, Copy)]
pub struct Attached<'a>(pub(super) PhantomData<&'a ()>);

impl<'py> From<Python<'py>> for Attached<'py> {
    fn from(_: Python<'py>) -> Self {
        Self(PhantomData)
    }
}

/// The identities of a thread for the system and for Python. Used only while the thread runs a task,
/// and so is alive.
pub(super) struct ThreadId {
    /// The identity for `PyThreadState_SetAsyncExc`.
    pub(super) ident: c_long,
    handle: libc::pthread_t,
}

impl ThreadId {
    /// Returns the identities of the calling thread, and unblocks the signal in it.
    pub(super) fn current() -> Self {
        // SAFETY: both take no argument, and need no attachment.
        let (ident, handle) = unsafe { (ffi::PyThread_get_thread_ident(), libc::pthread_self()) };
        let ident = ident.cast_signed();
        unblock_signal();
        Self { ident, handle }
    }

    /// Makes `Interrupted` pending in the thread, which raises it when it next runs Python code. A
    /// pending exception is replaced.
    pub(super) fn raise(&self, _: Attached<'_>) {
        if let Some(interpreter) = interpreter::get() {
            let class = interpreter.interrupts.class.as_ptr();
            // SAFETY: attached, and a class; for an identity without a thread the call does nothing.
            unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as _, class) };
        }
    }

    /// Withdraws an exception that may be pending in the thread. COMPAT(3.12): the call sets the
    /// interpreter's flag even so.
    pub(super) fn unraise(&self, _: Attached<'_>) {
        // SAFETY: attached; null withdraws.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as _, ptr::null_mut()) };
        forget_raised();
    }

    /// COMPAT(3.12): clears the interpreter's flag after a withdrawal, by an exception that the calling
    /// thread raises and swallows. Called by the releaser, in a task. Other threads find exceptions
    /// that are pending in them when they next take the GIL.
    pub(super) fn absorb(&self, py: Attached<'_>) {
        if released::take_flag_clearing() {
            self.raise(py);
            flush(py);
        }
    }

    /// Breaks a system call of the thread, which fails with `EINTR`. Called while the thread runs a
    /// task.
    pub(super) fn signal(&self) {
        // SAFETY: the thread is alive, since it runs a task; the signal has a handler.
        unsafe { libc::pthread_kill(self.handle, SIGNAL) };
    }

    /// Sets the name of the thread, at most 15 bytes, as `ps` and debuggers show it. Called while the
    /// thread runs a task.
    pub(super) fn rename(&self, name: &CStr) {
        // SAFETY: the thread is alive, since it runs a task.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::pthread_setname_np(self.handle, name.as_ptr())
        };
        // Elsewhere a thread can name only itself.
        #[cfg(not(target_os = "linux"))]
        let _: &CStr = name;
    }
}

/// Called when a raised exception will never be delivered. COMPAT(3.12): has the releaser clear the
/// interpreter's flag, which may be set.
pub(super) fn forget_raised() {
    if interpreter::get().is_some_and(|interpreter| interpreter.interrupts.has_one_flag) {
        released::request_flag_clearing();
    }
}

/// Makes the objects of [`Interrupts`]. Called once, by `start`.
pub(crate) fn find(py: Python<'_>, compile: &Bound<'_, PyAny>) -> PyResult<Interrupts> {
    let code = compile.call1(("for _ in (0, 0, 0): pass", "<interrupt>", "exec", 0, true))?;
    Ok(Interrupts {
        class: py.get_type::<Interrupted>().into_any().unbind(),
        code: code.unbind(),
        globals: PyDict::new(py).unbind(),
        has_one_flag: py.version_info() < (3, 13),
        notify: Notify::new(),
    })
}

/// Raises an exception that is pending in the calling thread, and swallows it. Runs Python code, so a
/// garbage collection may run.
pub fn flush(_: Attached<'_>) {
    if let Some(interpreter) = interpreter::get() {
        let interrupts = &interpreter.interrupts;
        let (code, globals) = (interrupts.code.as_ptr(), interrupts.globals.as_ptr());
        // SAFETY: attached, `code` is a code object, `globals` a dict; the result is null with an
        // exception set, or a new reference.
        unsafe {
            ffi::Py_XDECREF(ffi::PyEval_EvalCode(code, globals, globals));
            ffi::PyErr_Clear();
        }
    }
}

/// Takes an exception that is pending in the calling thread. Runs Python code, so a garbage collection
/// may run.
pub(crate) fn take(py: Python<'_>) -> Option<PyErr> {
    let interrupts = &interpreter::get()?.interrupts;
    evaluate(interrupts.code.bind(py), interrupts.globals.bind(py)).err()
}

extern "C" fn ignore(_signal: c_int) {}

/// Installs an empty handler without `SA_RESTART`, so that the signal breaks system calls. A handler
/// that a library has installed before stays. Called once, by `start`.
pub(crate) fn install_handler() -> io::Result<()> {
    // SAFETY: zeroes are a valid `sigaction`, which the calls read and write; the handler does
    // nothing, so it may run at any point of any thread.
    let failed = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(SIGNAL, ptr::null(), &raw mut action) != 0
            || action.sa_sigaction == libc::SIG_DFL && {
                action.sa_sigaction = ignore as extern "C" fn(c_int) as usize;
                action.sa_flags = 0;
                libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) != 0
            }
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Unblocks the signal in the calling thread. A thread inherits the signal mask of the thread that has
/// started it, and code of a context may have blocked the signal.
pub fn unblock_signal() {
    // SAFETY: `sigemptyset` fills the set before the other calls read it.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}
