//! Raises an exception in a thread that runs Python, and breaks its system calls.
//!
//! COMPAT(3.12): a pending exception sets a flag of the whole interpreter, and only the delivery of
//! one takes it back (`async_exc` in `struct _pending_calls`). While it is set every
//! thread takes the slow path between its instructions, and one with a trace function makes no
//! progress at all in 3.11, whose `DO_TRACING` starts over. So what was raised in vain is followed
//! by an exception for a thread that takes it at once, the releaser, and a thread that may be
//! blocked for hours has one pending for a moment only, now and then. The interrupter itself runs
//! no Python code: a garbage collection, and so anybody's finalizer, could come up in it.

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

/// Breaks system calls. Its default is to be ignored, nobody else in the BEAM or in Python uses
/// it, and libraries expect it to come for no reason: why Go preempts with it, too (proposal
/// 24543, non-cooperative goroutine preemption).
const SIGNAL: c_int = libc::SIGURG;

/// Proof that the calling thread is attached, for those who cannot hold a `Python`.
#[derive(Clone, Copy)]
pub struct Attached<'a>(pub(super) PhantomData<&'a ()>);

impl<'py> From<Python<'py>> for Attached<'py> {
    fn from(_: Python<'py>) -> Self {
        Self(PhantomData)
    }
}

/// How the system and Python know a thread. The thread is alive as long as it runs a task.
pub(super) struct ThreadId {
    /// What `PyThreadState_SetAsyncExc` knows it by.
    ident: c_long,
    handle: libc::pthread_t,
}

impl ThreadId {
    pub(super) fn current() -> Self {
        // SAFETY: both ask for a value, and need no attachment.
        let (ident, handle) = unsafe { (ffi::PyThread_get_thread_ident(), libc::pthread_self()) };
        let ident = ident.cast_signed();
        unblock_signal();
        Self { ident, handle }
    }

    /// The exception comes up in the thread when it next runs Python code. An earlier one that is
    /// still pending is replaced.
    pub(super) fn raise(&self, _: Attached<'_>) {
        if let Some(interpreter) = interpreter::get() {
            let class = interpreter.interrupts.class.as_ptr();
            // SAFETY: attached. A thread that is unknown to Python is no error here.
            unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as _, class) };
        }
    }

    /// Takes back what may be pending in the thread. Sets the flag all the same.
    pub(super) fn unraise(&self, _: Attached<'_>) {
        // SAFETY: attached.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as _, ptr::null_mut()) };
        forget_raised();
    }

    /// COMPAT(3.12): clears the interpreter's flag, if it is set for nothing, by an exception that the
    /// calling thread raises and swallows, in a task. Exceptions that are pending in other threads are
    /// raised again at their next turn.
    pub(super) fn absorb(&self, py: Attached<'_>) {
        if released::take_flag_clearing() {
            self.raise(py);
            flush(py);
        }
    }

    /// A system call that can be interrupted returns `EINTR`. Python itself calls again.
    pub(super) fn signal(&self) {
        // SAFETY: the thread is alive, since its slot has a task; the signal has a handler.
        unsafe { libc::pthread_kill(self.handle, SIGNAL) };
    }

    /// For whoever looks at the threads of the VM: at most 15 bytes.
    pub(super) fn rename(&self, name: &CStr) {
        // SAFETY: the thread is alive, since its slot has a task.
        unsafe { libc::pthread_setname_np(self.handle, name.as_ptr()) };
    }
}

/// Notes that what was raised in a thread will not be delivered.
/// COMPAT(3.12): the interpreter's flag may stay set, until the releaser takes an exception.
pub(super) fn forget_raised() {
    if interpreter::get().is_some_and(|interpreter| interpreter.interrupts.has_one_flag) {
        released::request_flag_clearing();
    }
}

/// Makes what a round of the interrupter needs. Called once.
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

/// An exception that is pending in the calling thread comes up here, and is gone.
pub fn flush(_: Attached<'_>) {
    if let Some(interpreter) = interpreter::get() {
        let interrupts = &interpreter.interrupts;
        let (code, globals) = (interrupts.code.as_ptr(), interrupts.globals.as_ptr());
        // SAFETY: attached, `code` is a code object, `globals` a dict. The result is null with
        // the exception set, or a new reference to `None`.
        unsafe {
            ffi::Py_XDECREF(ffi::PyEval_EvalCode(code, globals, globals));
            ffi::PyErr_Clear();
        }
    }
}

/// An exception that is pending in the calling thread, which has it now.
pub(crate) fn take(py: Python<'_>) -> Option<PyErr> {
    let interrupts = &interpreter::get()?.interrupts;
    evaluate(interrupts.code.bind(py), interrupts.globals.bind(py)).err()
}

extern "C" fn ignore(_signal: c_int) {}

/// Without `SA_RESTART`, so that system calls return. A handler that somebody else has set up
/// stays: he knows what the signal is for.
pub(crate) fn install_handler() -> io::Result<()> {
    // SAFETY: plain data, of which zeroes are a valid value, and calls that read and write it.
    // The handler does nothing, so it may run anywhere.
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

/// A thread inherits the mask of the one that starts it, and that may be anybody; and code of a
/// context may have blocked the signal.
pub fn unblock_signal() {
    // SAFETY: a signal set that is filled before it is read.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}
