//! Those who take turns: the seat of each worker, and the workers of a desk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use super::Turns;

/// The workers of a desk.
#[derive(Default)]
pub(crate) struct Crew {
    /// Used under the lock of the turns only.
    idle: Mutex<Vec<Arc<Seat>>>,
    /// The desk is among those who wait for the turn.
    pub(super) waits: AtomicBool,
}

/// A worker, for those who call it.
pub(crate) struct Seat {
    pub(super) turns: &'static Turns,
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

impl Crew {
    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Of the calling thread.
    pub(super) fn new(turns: &'static Turns) -> Arc<Self> {
        Arc::new(Self {
            turns,
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
