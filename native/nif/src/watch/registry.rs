//! The threads that run Python and the pools that they serve, for those who look at all of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use py_engine::interrupt::Thread;
use py_engine::lock::lock;

use super::escalation::Limits;
use super::watched_thread::{Role, WatchedThread};
use crate::job::Job;
use crate::pool::{Lease, Pool};
use crate::vm::notify_watchdog;

static REGISTRY: Registry = Registry {
    threads: Mutex::new(Vec::new()),
    abandoned: AtomicUsize::new(0),
    is_watching: AtomicBool::new(false),
    is_exiting: AtomicBool::new(false),
    may_have_strays: AtomicBool::new(false),
    pools: Mutex::new(Vec::new()),
    limits: Mutex::new(Limits {
        grace: Duration::from_secs(1),
        import_grace: Duration::from_mins(1),
        max_abandoned: 16,
    }),
    releaser_is_missing: AtomicBool::new(false),
};

pub(super) struct Registry {
    /// Locked for the length of an operation on the list, never while attaching.
    threads: Mutex<Vec<Arc<WatchedThread>>>,
    /// Threads that were abandoned and have not ended.
    abandoned: AtomicUsize,
    /// The watchdog is awake, or was notified, for threads that clean up.
    pub(super) is_watching: AtomicBool,
    /// The VM ends: no Python code may begin.
    pub(super) is_exiting: AtomicBool,
    /// Python code has left threads of its own running, which are not watched.
    pub(super) may_have_strays: AtomicBool,
    /// The pools whose threads the watchdog looks after.
    pools: Mutex<Vec<Weak<Pool>>>,
    limits: Mutex<Limits>,
    /// The releaser was abandoned, and has no successor yet.
    releaser_is_missing: AtomicBool,
}

pub(super) fn registry() -> &'static Registry {
    &REGISTRY
}

/// Registers the calling thread, until [`unregister`].
pub(crate) fn register(role: Role) -> Arc<WatchedThread> {
    let thread = WatchedThread::new(role);
    lock(&REGISTRY.threads).push(Arc::clone(&thread));
    thread
}

/// Called by the thread when it ends; `false` when it had been abandoned.
pub(crate) fn unregister(thread: &Arc<WatchedThread>) -> bool {
    lock(&REGISTRY.threads).retain(|other| !Arc::ptr_eq(other, thread));
    let kept = !thread.is_abandoned();
    if !kept {
        REGISTRY.abandoned.fetch_sub(1, Ordering::SeqCst);
        // A thread that was not replaced may be replaced now.
        notify_watchdog();
    }
    kept
}

/// All threads that are registered.
pub(crate) fn threads() -> Vec<Arc<WatchedThread>> {
    lock(&REGISTRY.threads).clone()
}

/// What the interrupter looks at.
pub(crate) fn engine_threads() -> Vec<Arc<Thread>> {
    let threads = lock(&REGISTRY.threads);
    let threads = threads.iter().map(|thread| Arc::clone(&thread.thread));
    threads.collect()
}

/// How many threads were abandoned and have not ended, in the whole VM.
pub(crate) fn abandoned() -> usize {
    REGISTRY.abandoned.load(Ordering::SeqCst)
}

/// Called under the lock of the thread that is abandoned, so before the thread can end.
pub(super) fn count_abandoned() {
    REGISTRY.abandoned.fetch_add(1, Ordering::SeqCst);
}

/// Python code runs in a registered thread. Called on the thread that ends the VM.
pub(super) fn is_busy() -> bool {
    threads().iter().any(|thread| thread.is_busy())
}

/// Interrupts the job that `is_it` accepts; `true` when its caller will be told so. Called on a
/// scheduler thread: takes one lock at a time, for a few instructions.
pub(crate) fn interrupt(is_it: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
    let found = threads().iter().any(|thread| thread.interrupt(&is_it));
    if found {
        notify_watchdog();
    }
    found
}

/// Has the watchdog look at threads that clean up, which may get stuck. Costs a system call now and
/// then only: a watchdog that was woken by it stays awake for a while.
pub(super) fn watch_cleaning() {
    let is_watching = &REGISTRY.is_watching;
    if !is_watching.load(Ordering::SeqCst) && !is_watching.swap(true, Ordering::SeqCst) {
        notify_watchdog();
    }
}

/// The watchdog was asked to look at threads that clean up.
pub(crate) fn is_watching() -> bool {
    REGISTRY.is_watching.load(Ordering::SeqCst)
}

pub(crate) fn end_watching() {
    REGISTRY.is_watching.store(false, Ordering::SeqCst);
}

/// Has the watchdog look after the threads of `pool`. `limits` hold for all pools.
pub(crate) fn guard(pool: &Arc<Pool>, limits: Limits) {
    *lock(&REGISTRY.limits) = limits;
    let mut pools = lock(&REGISTRY.pools);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}

/// The pools that are in use, also those that have closed.
pub(crate) fn pools() -> Vec<Arc<Pool>> {
    let pools = lock(&REGISTRY.pools);
    pools.iter().filter_map(Weak::upgrade).collect()
}

pub(crate) fn limits() -> Limits {
    *lock(&REGISTRY.limits)
}

/// The releaser was abandoned, and has no successor yet.
pub(crate) fn releaser_is_missing() -> bool {
    REGISTRY.releaser_is_missing.load(Ordering::SeqCst)
}

pub(crate) fn set_releaser_is_missing(is_missing: bool) {
    REGISTRY
        .releaser_is_missing
        .store(is_missing, Ordering::SeqCst);
}
