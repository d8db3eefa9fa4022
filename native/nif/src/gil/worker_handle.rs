//! Those who take gil: the worker of each worker, and the workers of a queue.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};

use py_engine::host::Wake;
use py_engine::lock::lock;

use super::GilScheduler;

/// The workers of a queue.
#[derive(Default)]
pub(crate) struct IdleWorkers {
    /// Used under the lock of the gil only.
    idle: Mutex<Vec<Arc<WorkerHandle>>>,
    /// The queue is among those who wait for the turn.
    pub(super) waits: AtomicBool,
}

/// A worker, for those who call it.
pub(crate) struct WorkerHandle {
    pub(super) gil: &'static GilScheduler,
    pub(super) thread: Thread,
    /// It looks for work before it rests: nobody needs to call it. Changes under the lock.
    pub(super) awake: AtomicBool,
    /// Its turn has come. Set under the lock, taken by the worker.
    pub(super) granted: AtomicBool,
    /// It has the turn. Changes under the lock.
    pub(super) is_holder: AtomicBool,
    /// It has the turn, no work, and its eyes open.
    pub(super) spins: AtomicBool,
    /// How many jobs it has begun.
    pub(super) begun: AtomicU64,
}

impl IdleWorkers {
    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Arc<WorkerHandle>>> {
        lock(&self.idle)
    }
}

impl WorkerHandle {
    /// Of the calling thread.
    pub(super) fn new(gil: &'static GilScheduler) -> Arc<Self> {
        Arc::new(Self {
            gil,
            thread: thread::current(),
            awake: AtomicBool::new(true),
            granted: AtomicBool::new(false),
            is_holder: AtomicBool::new(false),
            spins: AtomicBool::new(false),
            begun: AtomicU64::new(0),
        })
    }

    pub(super) fn is_holder(&self) -> bool {
        self.is_holder.load(Ordering::Relaxed)
    }
}

/// Wakes a worker that waits in the middle of a job: the worker gets in line for its turn.
pub(crate) struct WorkerWaker(pub(crate) Arc<WorkerHandle>);

impl Wake for WorkerWaker {
    fn wake(&self) {
        super::call(&self.0);
    }
}
