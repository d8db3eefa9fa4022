//! The thread of a worker: how it starts, how it ends, and who follows it.
//!
//! Started on scheduler threads, and where a thread has to be replaced: on the watchdog, and on a
//! worker that ends by a crash.

use pyo3::prelude::*;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::atoms;
use crate::fatal::SignalStack;
use crate::pool::Pool;
use crate::reply::Outbox;
use crate::slot::{Role, Task};
use crate::station::Exit;
use crate::worker::Worker;
use crate::{threads, watchdog};

/// What a recursion of [`crate::tidy::MAX_RECURSION`] calls needs in the worst case that was
/// measured: 23.6 KB a call, numpy's functions on arrays of Python objects that call such
/// functions (CPython 3.10). Address space only: pages are used as they are touched.
pub(crate) const STACK_SIZE: usize = 256 << 20;

/// Starts the worker `id` of `pool`.
pub(crate) fn spawn(pool: Arc<Pool>, id: u64) -> io::Result<()> {
    let builder = thread::Builder::new()
        .name(format!("py_worker_{id}"))
        .stack_size(STACK_SIZE);
    builder.spawn(move || run(pool, id)).map(|_detached| ())
}

/// As `spawn`, where nobody waits for the outcome: `py_pool` hears when there is no thread to be
/// had. Not for scheduler threads.
pub(crate) fn start(pool: &Arc<Pool>, id: u64) {
    if spawn(Arc::clone(pool), id).is_err() {
        let mut outbox = Outbox::new();
        if pool.is_closed() {
            // This may have been the last that could.
            pool.refuse_excess(&mut outbox);
        } else {
            outbox.note(&pool.manager, (atoms::py_worker(), id, atoms::lost()));
        }
    }
}

fn run(pool: Arc<Pool>, id: u64) {
    let _stack = SignalStack::install();
    let slot = watchdog::register(Role::Worker(id, Arc::clone(&pool)));
    let serve = || {
        let mut worker = Worker::new(&pool, &slot);
        Python::attach(|py| {
            let exit = worker.serve(py);
            // What the thread has kept is dropped here or with its thread state, and finalizers
            // run.
            slot.begin(Task::Cleaning(None));
            threads::forget();
            exit
        })
    };
    let exit = catch_unwind(AssertUnwindSafe(serve)).unwrap_or(Exit::Crashed);
    slot.leave();
    if watchdog::unregister(&slot) && matches!(exit, Exit::Crashed) {
        // The successor is started here and not by `py_pool`, which may be stopping: a closed
        // pool as well needs somebody to refuse what is queued there.
        Outbox::new().note(&pool.manager, (atoms::py_worker(), id, atoms::crashed()));
        start(&pool, id);
    }
}
