//! The state that a VM has once, across restarts of the application: [`VM`]. Used on any thread;
//! the lock in it is held for one push or pop.

use once_cell::sync::OnceCell;
use rustler::OwnedEnv;
use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use py_engine::notify::Notify;

use crate::callback_server::CallbackServer;
use crate::live_counts::LiveCounts;
use crate::output_queue::OutputQueue;

pub(crate) static VM: Vm = Vm {
    started: OnceCell::new(),
    counts: LiveCounts::new(),
    watchdog: Notify::new(),
    process_io: OnceCell::new(),
    callbacks: CallbackServer::new(),
    output: OutputQueue::new(),
    logging: AtomicU32::new(0),
    next_id: AtomicU64::new(1),
    spare_envs: Mutex::new(Vec::new()),
};

pub(crate) struct Vm {
    /// The result of the one start of Python.
    pub(crate) started: OnceCell<Result<(), String>>,
    pub(crate) counts: LiveCounts,
    /// Wakes the watchdog: a running job must stop, a thread may be replaced, or a lease has ended.
    pub(crate) watchdog: Notify,
    /// The thread `py_process_io`, once a pool of child processes was opened.
    pub(crate) process_io: OnceCell<Box<dyn ProcessIo>>,
    /// `py_callback`, and the names of the functions that it has.
    pub(crate) callbacks: CallbackServer,
    /// What Python code has written.
    pub(crate) output: OutputQueue,
    /// How Python's `logging` is configured, which each job tells a child process.
    pub(crate) logging: AtomicU32,
    next_id: AtomicU64,
    /// Empty environments for reuse, see `job/env_pool.rs`. Locked for a push or a pop.
    pub(crate) spare_envs: Mutex<Vec<OwnedEnv>>,
}

/// Has the watchdog look at every thread and pool. Called on any thread; never blocks.
pub(crate) fn notify_watchdog() {
    VM.watchdog.notify();
    wake_process_io();
}

/// Has the thread of the child processes look at every job. Called on any thread; never blocks.
pub(crate) fn wake_process_io() {
    if let Some(io) = VM.process_io.get() {
        io.wake();
    }
}

/// The thread of the child processes, as the modules below it know it.
pub(crate) trait ProcessIo: Send + Sync {
    /// Wakes the thread. Never blocks.
    fn wake(&self);
    /// Returns `self`, for the thread's own module.
    fn as_any(&self) -> &dyn Any;
}

/// Returns a number that was never returned before: a context of a pool that has closed must not
/// name a lease of the next pool, nor a stream another stream. Called on any thread.
pub(crate) fn next_id() -> u64 {
    VM.next_id.fetch_add(1, Ordering::Relaxed)
}
