//! The thread of a worker: how it starts, how it ends, and who follows it.
//!
//! Started on scheduler threads, and where a thread has to be replaced: on the watchdog, and on a
//! worker that ends by a crash.

use pyo3::prelude::*;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use py_engine::namespace::child_threads;
use py_engine::python::faulthandler::SignalStack;
use py_engine::start::STACK_SIZE;

use super::Worker;
use crate::atoms;
use crate::host::Exit;
use crate::job::ReplyBuffer;
use crate::pool::Pool;
use crate::watch::{Role, Task, register, unregister};

/// Starts the worker `id` of `pool`.
pub(crate) fn spawn(pool: Arc<Pool>, id: u64) -> io::Result<()> {
    let builder = thread::Builder::new()
        .name(format!("py_worker_{id}"))
        .stack_size(STACK_SIZE);
    builder.spawn(move || run(pool, id)).map(|_detached| ())
}

/// As `spawn`, where nobody waits for the outcome: `py_pool` hears when there is no thread to be
/// had. Not for scheduler threads.
pub(super) fn start(pool: &Arc<Pool>, id: u64) {
    if spawn(Arc::clone(pool), id).is_err() {
        let mut replies = ReplyBuffer::new();
        if pool.is_closed() {
            // This may have been the last that could.
            pool.refuse_excess(&mut replies);
        } else {
            replies.notify(&pool.manager, (atoms::py_worker(), id, atoms::lost()));
        }
    }
}

fn run(pool: Arc<Pool>, id: u64) {
    let _stack = SignalStack::install();
    let watched = register(Role::Worker(id, Arc::clone(&pool)));
    let serve = || {
        let mut worker = Worker::new(&pool, &watched);
        Python::attach(|py| {
            let exit = worker.serve(py);
            // What the thread has kept is dropped here or with its thread state, and finalizers
            // run.
            watched.begin(Task::Cleaning(None));
            child_threads::forget();
            exit
        })
    };
    let exit = catch_unwind(AssertUnwindSafe(serve)).unwrap_or(Exit::Crashed);
    watched.leave();
    if unregister(&watched) && matches!(exit, Exit::Crashed) {
        // The successor is started here and not by `py_pool`, which may be stopping: a closed
        // pool as well needs somebody to refuse what is queued there.
        ReplyBuffer::new().notify(&pool.manager, (atoms::py_worker(), id, atoms::crashed()));
        start(&pool, id);
    }
}
