//! The thread that raises exceptions in others.
//!
//! The interrupter attaches for the length of a round, and may wait for the GIL as long as some C
//! code keeps that. It attaches without PyO3, which would release dropped objects first, and so run
//! finalizers. It runs no Python code: a garbage collection, and so any finalizer, could run in it.

use pyo3::ffi;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use super::raise::Attached;
use super::thread::{Raised, Thread};
use crate::interpreter::{self, Interpreter};

/// How long an exception is pending in an abandoned thread, for each thread that may run Python
/// code: two turns of all of them with the GIL, at the default switch interval of 5 ms.
const MOMENT: Duration = Duration::from_millis(10);

/// Starts the interrupter, which looks at what `threads` returns in each round. Runs once, after
/// [`crate::start::start`].
///
/// # Errors
/// There is no thread to be had.
pub fn start(threads: fn() -> Vec<Arc<Thread>>) -> io::Result<()> {
    let missing = || io::Error::other("Python has not been set up");
    let interpreter = interpreter::get().ok_or_else(missing)?;
    let builder = thread::Builder::new().name("py_interrupter".to_owned());
    builder
        .spawn(move || run(interpreter, threads))
        .map(|_detached| ())
}

fn run(interpreter: &Interpreter, threads: fn() -> Vec<Arc<Thread>>) {
    // Abandoned threads in which an exception is pending, and when to withdraw it.
    let mut pending: Option<(Instant, Vec<Arc<Thread>>)> = None;
    loop {
        let deadline = pending.as_ref().map(|(deadline, _)| *deadline);
        interpreter.interrupts.notify.wait(deadline);
        let now = Instant::now();
        let threads = threads();
        let moment = MOMENT.saturating_mul(u32::try_from(threads.len()).unwrap_or(u32::MAX));
        attached(|py| {
            if let Some((_, abandoned)) = pending.take_if(|(deadline, _)| *deadline <= now) {
                abandoned.iter().for_each(|thread| thread.withdraw(py));
            }
            for thread in threads {
                if thread.raise(py) == Raised::Abandoned {
                    let new = || (now + moment, Vec::new());
                    pending.get_or_insert_with(new).1.push(thread);
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
