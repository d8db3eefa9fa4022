//! The state that a VM has once, across restarts of the application: [`VM`]. Used on any thread;
//! the lock in it is held for one push or pop.

use once_cell::sync::OnceCell;
use rustler::OwnedEnv;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use py_engine::notify::Notify;

use crate::live_counts::LiveCounts;

pub(crate) static VM: Vm = Vm {
    started: OnceCell::new(),
    counts: LiveCounts::new(),
    watchdog: Notify::new(),
    next_id: AtomicU64::new(1),
    spare_envs: Mutex::new(Vec::new()),
};

pub(crate) struct Vm {
    /// The result of the one start of Python.
    pub(crate) started: OnceCell<Result<(), String>>,
    pub(crate) counts: LiveCounts,
    /// Wakes the watchdog: a running job must stop, a thread may be replaced, or a lease has ended.
    pub(crate) watchdog: Notify,
    next_id: AtomicU64,
    /// Empty environments for reuse, see `job/env_pool.rs`. Locked for a push or a pop.
    pub(crate) spare_envs: Mutex<Vec<OwnedEnv>>,
}

/// Has the watchdog look at every thread and pool. Called on any thread; never blocks.
pub(crate) fn notify_watchdog() {
    VM.watchdog.notify();
}

/// Returns a number that was never returned before: a context of a pool that has closed must not
/// name a lease of the next pool, nor a stream another stream. Called on any thread.
pub(crate) fn next_id() -> u64 {
    VM.next_id.fetch_add(1, Ordering::Relaxed)
}
