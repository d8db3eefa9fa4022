//! The interrupter: the thread `py_interrupter`, which raises exceptions in other threads.
//!
//! The interrupter waits for a notification, detached, and attaches for the length of a round: that
//! blocks as long as C code of another thread keeps the GIL. It attaches without PyO3, which would
//! release dropped objects first, and so run finalizers. It runs no Python code, since that may run a
//! garbage collection, and so any finalizer.

use pyo3::ffi;
use pyo3::prelude::*;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use super::raise::Attached;
use super::thread::{Raised, Thread};
use crate::interpreter::{self, Interpreter};
use crate::python::switch_interval;

/// The time for which an exception stays pending in an abandoned thread, multiplied by the number of
/// threads that may run Python: each has the GIL twice meanwhile, at the default switch interval of
/// 5 ms.
const PENDING_TIME: Duration = Duration::from_millis(10);

/// Starts the interrupter, which looks at the result of `threads` in each round. Called once, by the
/// host, after [`crate::start::start`].
///
/// # Errors
/// The thread could not be started.
pub fn start(threads: fn() -> Vec<Arc<Thread>>) -> io::Result<()> {
    let missing = || io::Error::other("Python has not been set up");
    let interpreter = interpreter::get().ok_or_else(missing)?;
    let builder = thread::Builder::new().name("py_interrupter".to_owned());
    builder
        .spawn(move || run(interpreter, threads))
        .map(|_detached| ())
}

/// The loop of the interrupter; never returns.
fn run(interpreter: &Interpreter, threads: fn() -> Vec<Arc<Thread>>) {
    // Abandoned threads in which an exception is pending, and when to withdraw it.
    let mut pending: Vec<(Instant, Arc<Thread>)> = Vec::new();
    loop {
        let deadline = pending.iter().map(|(deadline, _)| *deadline).min();
        interpreter.interrupts.notify.wait(deadline);
        let now = Instant::now();
        let threads = threads();
        let count = u32::try_from(threads.len()).unwrap_or(u32::MAX);
        let pending_time = PENDING_TIME.saturating_mul(count);
        attached(false, |py| {
            let is_over = |(deadline, _): &mut (Instant, _)| *deadline <= now;
            for (_, thread) in pending.extract_if(.., is_over) {
                thread.withdraw(py);
            }
            for thread in threads {
                if thread.raise(py) == Raised::Abandoned {
                    pending.push((now + pending_time, thread));
                }
            }
        });
    }
}

/// Attaches the calling thread for the length of `body`: as any thread does for the interrupter, whose
/// exceptions need not come sooner, and at once for the inspector.
pub(crate) fn attached(is_at_once: bool, body: impl FnOnce(Attached<'_>)) {
    // SAFETY: Python runs and is never finalized; the state is released on this thread, also by a panic.
    let ensure = || unsafe { ffi::PyGILState_Ensure() };
    let state = if is_at_once {
        switch_interval::attach_at_once(ensure)
    } else {
        ensure()
    };
    let _release = Release { state, is_at_once };
    body(Attached(PhantomData));
}

struct Release {
    state: ffi::PyGILState_STATE,
    is_at_once: bool,
}

impl Drop for Release {
    fn drop(&mut self) {
        if self.is_at_once {
            // SAFETY: attached until the release.
            switch_interval::settle(unsafe { Python::assume_attached() });
        }
        // SAFETY: the state is the result of `PyGILState_Ensure` on this thread, and is released once.
        unsafe { ffi::PyGILState_Release(self.state) };
    }
}
