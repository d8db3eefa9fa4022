//! Handles of the workers that take GIL turns, and the list of the idle workers of a queue.
//!
//! Used under the scheduler's lock by the threads that call [`super::call`] and
//! [`super::call_one`], and by the worker itself; nothing here blocks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::Instant;

use py_engine::host::Wake;
use py_engine::lock::lock;

use super::GilScheduler;

/// The idle workers of a run queue.
#[derive(Default)]
pub(crate) struct IdleWorkers {
    /// Workers that are parked and serve no lease. Used under the scheduler's lock only.
    idle: Mutex<Vec<Arc<WorkerHandle>>>,
    /// The queue is among the waiters for the turn. Changes under the scheduler's lock.
    pub(super) waits: AtomicBool,
}

/// A worker, as the threads that call it see it.
pub(crate) struct WorkerHandle {
    pub(super) gil: &'static GilScheduler,
    pub(super) thread: Thread,
    /// The worker looks for work before it parks, or was called: it needs no call. Changes under
    /// the lock.
    pub(super) awake: AtomicBool,
    /// The turn was granted to the worker, which is parked. Set under the lock, taken by the
    /// worker.
    pub(super) granted: AtomicBool,
    /// The worker holds the turn. Changes under the lock.
    pub(super) is_holder: AtomicBool,
    /// Spinning: the worker holds the turn, has no job and polls its queue; it needs no wake-up.
    pub(super) spins: AtomicBool,
    /// Since when the worker wants the GIL; `None` while it has it, or has nothing to do. Set under the
    /// lock, taken by the worker when it is attached.
    pub(super) asked_at: Mutex<Option<Instant>>,
    /// How many jobs the worker has begun. Written by the worker, read by the monitor.
    pub(super) begun: AtomicU64,
}

impl IdleWorkers {
    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Arc<WorkerHandle>>> {
        lock(&self.idle)
    }
}

impl WorkerHandle {
    /// Makes the handle of the calling thread.
    pub(super) fn new(gil: &'static GilScheduler) -> Arc<Self> {
        Arc::new(Self {
            gil,
            thread: thread::current(),
            awake: AtomicBool::new(true),
            granted: AtomicBool::new(false),
            is_holder: AtomicBool::new(false),
            spins: AtomicBool::new(false),
            asked_at: Mutex::default(),
            begun: AtomicU64::new(0),
        })
    }

    /// Sets the time from which on the worker waits, unless it waits already.
    pub(super) fn ask(&self) {
        lock(&self.asked_at).get_or_insert_with(Instant::now);
    }

    pub(super) fn is_holder(&self) -> bool {
        self.is_holder.load(Ordering::Relaxed)
    }
}

/// Wakes a worker that waits in the middle of a job: the worker is queued for the turn.
pub(crate) struct WorkerWaker(pub(crate) Arc<WorkerHandle>);

impl Wake for WorkerWaker {
    fn wake(&self) {
        super::call(&self.0);
    }
}
