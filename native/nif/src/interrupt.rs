//! Raises an exception in a thread that runs Python, and breaks its system calls.
//!
//! The interrupter is a thread of its own: it attaches for the length of a round, and may wait
//! for the GIL as long as some C code keeps that. It attaches without PyO3, which would release
//! dropped objects first, and so run finalizers.
//!
//! Up to Python 3.12 a pending exception sets a flag of the whole interpreter, and only the
//! delivery of one takes it back (`async_exc` in `struct _pending_calls`). While it is set every
//! thread takes the slow path between its instructions, and one with a trace function makes no
//! progress at all in 3.11, whose `DO_TRACING` starts over. So what was raised in vain is followed
//! by an exception for a thread that takes it at once, the releaser, and a thread that may be
//! blocked for hours has one pending for a moment only, now and then. The interrupter itself runs
//! no Python code: a garbage collection, and so anybody's finalizer, could come up in it.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use once_cell::sync::OnceCell;
use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::{CStr, c_int, c_long};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, mem, ptr, thread};

use crate::slot::{Raised, Slot};
use crate::{code, namespace, release, watchdog};

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

/// How long an exception is pending in an abandoned thread, for each thread that may run Python
/// code: two turns of all of them with the GIL, at the default switch interval of 5 ms.
const MOMENT: Duration = Duration::from_millis(10);

/// What a round needs; it lives as long as the interpreter.
struct Tools {
    /// `Interrupted`.
    class: Py<PyAny>,
    /// Something to run into an exception with, and its globals.
    code: Py<PyAny>,
    globals: Py<PyDict>,
    /// Whether the flag is the interpreter's.
    has_one_flag: bool,
}

static TOOLS: OnceCell<Tools> = OnceCell::new();
/// An exception was taken back, and the interpreter has one flag for all.
static STALE: AtomicBool = AtomicBool::new(false);
static BELL: OnceCell<Sender<()>> = OnceCell::new();

/// Proof that the calling thread is attached, for those who cannot hold a `Python`.
#[derive(Clone, Copy)]
pub(crate) struct Attached<'a>(PhantomData<&'a ()>);

impl<'py> From<Python<'py>> for Attached<'py> {
    fn from(_: Python<'py>) -> Self {
        Self(PhantomData)
    }
}

/// A thread that runs Python. It is alive as long as its slot has a task.
pub(crate) struct Thread {
    /// What `PyThreadState_SetAsyncExc` knows it by.
    ident: c_long,
    handle: libc::pthread_t,
}

impl Thread {
    pub(crate) fn current() -> Self {
        // SAFETY: both ask for a value, and need no attachment.
        let (ident, handle) = unsafe { (ffi::PyThread_get_thread_ident(), libc::pthread_self()) };
        let ident = ident.cast_signed();
        unblock_signal();
        Self { ident, handle }
    }

    /// The exception comes up in the thread when it next runs Python code. An earlier one that is
    /// still pending is replaced.
    pub(crate) fn raise(&self, _: Attached<'_>) {
        if let Some(tools) = TOOLS.get() {
            // SAFETY: attached. A thread that is unknown to Python is no error here.
            unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as _, tools.class.as_ptr()) };
        }
    }

    /// Takes back what may be pending in the thread. Sets the flag all the same.
    pub(crate) fn unraise(&self, _: Attached<'_>) {
        // SAFETY: attached.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as _, ptr::null_mut()) };
        forget_raised();
    }

    /// Takes the interpreter's flag back, if it is set for nothing, by an exception for the calling
    /// thread, whose slot has a task. Those that are pending elsewhere are raised again at their
    /// next turn.
    pub(crate) fn absorb(&self, py: Attached<'_>) {
        if STALE.swap(false, Ordering::SeqCst) {
            self.raise(py);
            flush(py);
        }
    }

    /// A system call that can be interrupted returns `EINTR`. Python itself calls again.
    pub(crate) fn signal(&self) {
        // SAFETY: the thread is alive, since its slot has a task; the signal has a handler.
        unsafe { libc::pthread_kill(self.handle, SIGNAL) };
    }

    /// For whoever looks at the threads of the VM: at most 15 bytes.
    pub(crate) fn rename(&self, name: &CStr) {
        // SAFETY: the thread is alive, since its slot has a task.
        unsafe { libc::pthread_setname_np(self.handle, name.as_ptr()) };
    }
}

/// What was raised in a thread will not come up: the interpreter's flag may be set for nothing.
pub(crate) fn forget_raised() {
    if TOOLS.get().is_some_and(|tools| tools.has_one_flag) {
        STALE.store(true, Ordering::SeqCst);
        release::ring();
    }
}

/// Starts the interrupter. Runs once, on Python's main thread, attached.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let code = code::compile(py, code::Mode::Exec, "for _ in (0, 0, 0): pass")?;
    let tools = Tools {
        class: py.get_type::<Interrupted>().into_any().unbind(),
        code: code.unbind(),
        globals: PyDict::new(py).unbind(),
        has_one_flag: py.version_info() < (3, 13),
    };
    // Python is started once.
    let _: Result<(), _> = TOOLS.set(tools);
    install_handler()?;
    let (bell, rings) = bounded(1);
    let _: Result<(), _> = BELL.set(bell);
    let builder = thread::Builder::new().name("py_interrupter".to_owned());
    builder.spawn(move || run(&rings))?;
    Ok(())
}

/// Asks for a round. Never blocks.
pub(crate) fn ring() {
    if let Some(bell) = BELL.get() {
        // Full: a round is due already.
        let _: Result<(), _> = bell.try_send(());
    }
}

fn run(rings: &Receiver<()>) {
    // Abandoned threads in which an exception is pending, and when to take it back.
    let mut pending: Option<(Instant, Vec<Arc<Slot>>)> = None;
    loop {
        let rung = match &pending {
            Some((deadline, _)) => rings.recv_deadline(*deadline),
            None => rings.recv().map_err(RecvTimeoutError::from),
        };
        if rung == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let now = Instant::now();
        let slots = watchdog::slots();
        let moment = MOMENT.saturating_mul(u32::try_from(slots.len()).unwrap_or(u32::MAX));
        attached(|py| {
            if let Some((_, abandoned)) = pending.take_if(|(deadline, _)| *deadline <= now) {
                abandoned.iter().for_each(|slot| slot.unraise(py));
            }
            for slot in slots {
                if slot.raise(py) == Raised::Abandoned {
                    let new = || (now + moment, Vec::new());
                    pending.get_or_insert_with(new).1.push(slot);
                }
            }
        });
    }
}

fn attached(body: impl FnOnce(Attached<'_>)) {
    // SAFETY: Python runs, and is never finalized; released below, on this thread.
    let state = unsafe { ffi::PyGILState_Ensure() };
    body(Attached(PhantomData));
    // SAFETY: what the call above returned.
    unsafe { ffi::PyGILState_Release(state) };
}

/// An exception that is pending in the calling thread comes up here, and is gone.
pub(crate) fn flush(_: Attached<'_>) {
    if let Some(tools) = TOOLS.get() {
        let (code, globals) = (tools.code.as_ptr(), tools.globals.as_ptr());
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
    let tools = TOOLS.get()?;
    namespace::evaluate(tools.code.bind(py), tools.globals.bind(py)).err()
}

extern "C" fn ignore(_signal: c_int) {}

/// Without `SA_RESTART`, so that system calls return. A handler that somebody else has set up
/// stays: he knows what the signal is for.
fn install_handler() -> io::Result<()> {
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
pub(crate) fn unblock_signal() {
    // SAFETY: a signal set that is filled before it is read.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}
