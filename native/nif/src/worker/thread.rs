//! The thread of a worker: its start, its end, and the start of its successor.
//!
//! `spawn` is called on scheduler threads; `start` on the watchdog, for an abandoned worker, and on
//! a worker that ends by a crash. Neither waits for the thread to run.

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
use crate::gil::GilTurn;
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

/// Starts a worker in the place of another. Notifies `py_pool` if no thread can be started. May
/// send, so it must not run on a scheduler thread.
pub(super) fn start(pool: &Arc<Pool>, id: u64) {
    if spawn(Arc::clone(pool), id).is_err() {
        let mut replies = ReplyBuffer::new();
        if pool.is_closed() {
            // No other worker may be left to refuse the items of the queue.
            pool.refuse_excess(&mut replies);
        } else {
            replies.notify(&pool.manager, (atoms::py_worker(), id, atoms::lost()));
        }
    }
}

fn run(pool: Arc<Pool>, id: u64) {
    let _stack = SignalStack::install();
    let turn = GilTurn::new();
    let watched = register(Role::Worker {
        id,
        pool: Arc::clone(&pool),
        gil: Arc::clone(turn.worker()),
    });
    let serve = || {
        let mut worker = Worker::new(&pool, &watched, turn);
        Python::attach(|py| {
            let exit = worker.serve(py);
            // Objects that the thread has kept are dropped here or with its thread state, which
            // runs their finalizers.
            watched.begin(Task::Cleaning(None));
            child_threads::forget();
            exit
        })
    };
    let exit = catch_unwind(AssertUnwindSafe(serve)).unwrap_or(Exit::Crashed);
    watched.leave();
    if unregister(&watched) && matches!(exit, Exit::Crashed) {
        // `py_pool` may be stopping, so the successor is started here: a closed pool as well needs
        // a worker that refuses the items of its queue.
        ReplyBuffer::new().notify(&pool.manager, (atoms::py_worker(), id, atoms::crashed()));
        start(&pool, id);
    }
}
