//! Wakes the watchdog.

use py_engine::notify::Notify;

/// What the watchdog waits for. Notified on any thread when a job that runs must stop, a thread may
/// be replaced, or a lease has ended.
pub(crate) static WATCHDOG: Notify = Notify::new();

/// Has the watchdog look at every thread and pool. Never blocks.
pub(crate) fn notify_watchdog() {
    WATCHDOG.notify();
}
