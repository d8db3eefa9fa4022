//! The registry of all watched threads, and of the pools that they serve.
//!
//! Threads register themselves; the watchdog, the interrupter, `py:interrupt/1` (on a scheduler
//! thread) and the exit handler look at all of them. Each lock is held for one operation; nothing
//! attaches.

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
    is_watching_cleaning: AtomicBool::new(false),
    is_exiting: AtomicBool::new(false),
    may_have_left_threads: AtomicBool::new(false),
    pools: Mutex::new(Vec::new()),
    limits: Mutex::new(Limits {
        grace: Duration::from_secs(1),
        import_grace: Duration::from_mins(1),
        max_abandoned: 16,
    }),
    releaser_is_missing: AtomicBool::new(false),
};

pub(super) struct Registry {
    /// The watched threads. Locked for one operation on the list, never while attaching.
    threads: Mutex<Vec<Arc<WatchedThread>>>,
    /// The number of threads that were abandoned and have not ended.
    abandoned: AtomicUsize,
    /// The watchdog is awake, or was notified, for threads that clean up.
    pub(super) is_watching_cleaning: AtomicBool,
    /// The VM ends: no task may begin.
    pub(super) is_exiting: AtomicBool,
    /// Python code has left threads of its own running, which are not watched.
    pub(super) may_have_left_threads: AtomicBool,
    /// The pools whose threads the watchdog watches.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// The limits of the last start of the application, for all pools.
    limits: Mutex<Limits>,
    /// The releaser was abandoned, and has no successor yet.
    releaser_is_missing: AtomicBool,
}

pub(super) fn registry() -> &'static Registry {
    &REGISTRY
}

/// Registers the calling thread as a watched one, until [`unregister`].
pub(crate) fn register(role: Role) -> Arc<WatchedThread> {
    let thread = WatchedThread::new(role);
    lock(&REGISTRY.threads).push(Arc::clone(&thread));
    thread
}

/// Unregisters a thread. Called by the thread itself when it ends; `false` if it was abandoned, and
/// so has a successor or was not replaced.
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

/// Returns all registered threads.
pub(crate) fn threads() -> Vec<Arc<WatchedThread>> {
    lock(&REGISTRY.threads).clone()
}

/// Returns the engine's part of all registered threads. Called by the interrupter.
pub(crate) fn engine_threads() -> Vec<Arc<Thread>> {
    let threads = lock(&REGISTRY.threads);
    let threads = threads.iter().map(|thread| Arc::clone(&thread.thread));
    threads.collect()
}

/// Returns the number of threads in the whole VM that were abandoned and have not ended.
pub(crate) fn abandoned() -> usize {
    REGISTRY.abandoned.load(Ordering::SeqCst)
}

/// Counts an abandoned thread. Called by the watchdog under the lock of that thread, so before the
/// thread can end.
pub(super) fn count_abandoned() {
    REGISTRY.abandoned.fetch_add(1, Ordering::SeqCst);
}

/// Returns `true` if a registered thread runs a task. Called on the thread that ends the VM.
pub(super) fn is_busy() -> bool {
    threads().iter().any(|thread| thread.is_busy())
}

/// Interrupts the jobs of the first thread that runs one which `matches` accepts; `true` if a
/// caller will get `interrupted`. Called on a scheduler thread: each lock is held for a few
/// instructions.
pub(crate) fn interrupt(matches: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
    let found = threads().iter().any(|thread| thread.interrupt(&matches));
    if found {
        notify_watchdog();
    }
    found
}

/// Has the watchdog look at threads that clean up, which may get stuck. Called by a thread that
/// begins cleaning. Seldom costs a system call: the watchdog stays awake for a while after the
/// first.
pub(super) fn watch_cleaning() {
    let flag = &REGISTRY.is_watching_cleaning;
    if !flag.load(Ordering::SeqCst) && !flag.swap(true, Ordering::SeqCst) {
        notify_watchdog();
    }
}

/// Returns `true` if the watchdog was asked to look at threads that clean up.
pub(crate) fn is_watching_cleaning() -> bool {
    REGISTRY.is_watching_cleaning.load(Ordering::SeqCst)
}

/// Takes the request back. Called by the watchdog before it looks once more and sleeps.
pub(crate) fn end_watching_cleaning() {
    REGISTRY.is_watching_cleaning.store(false, Ordering::SeqCst);
}

/// Has the watchdog watch the threads of `pool`. `limits` hold for all pools from now on. Called on
/// a scheduler thread.
pub(crate) fn watch_pool(pool: &Arc<Pool>, limits: Limits) {
    *lock(&REGISTRY.limits) = limits;
    add_pool(pool);
}

/// Has the watchdog refuse what no worker of the pool will take. Called on a scheduler thread.
pub(crate) fn add_pool(pool: &Arc<Pool>) {
    let mut pools = lock(&REGISTRY.pools);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}

/// Returns the pools that are still referred to, closed ones included.
pub(crate) fn pools() -> Vec<Arc<Pool>> {
    let pools = lock(&REGISTRY.pools);
    pools.iter().filter_map(Weak::upgrade).collect()
}

pub(crate) fn limits() -> Limits {
    *lock(&REGISTRY.limits)
}

/// Returns `true` if the releaser was abandoned and has no successor yet.
pub(crate) fn releaser_is_missing() -> bool {
    REGISTRY.releaser_is_missing.load(Ordering::SeqCst)
}

pub(crate) fn set_releaser_is_missing(is_missing: bool) {
    REGISTRY
        .releaser_is_missing
        .store(is_missing, Ordering::SeqCst);
}
