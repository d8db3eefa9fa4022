//! The end of the asyncio tasks of a lease that have to stop. Called by the worker, attached, and for an
//! abandoned thread by the watchdog; blocks on nothing.

use pyo3::prelude::*;

use py_engine::asyncio;

use crate::error::Error;
use crate::job::ReplyBuffer;
use crate::pool::Lease;
use crate::vm::notify_watchdog;

/// Cancels the tasks of a lease that must stop, and replies `interrupted` for those that have not
/// ended within a second of their cancel. Called on the worker, attached, within a call of the
/// lease.
pub(crate) fn cancel_unwanted(py: Python<'_>, lease: &Lease, replies: &mut ReplyBuffer) {
    for job in lease.in_flight().take_cancel_timeouts() {
        lease.finish_job();
        replies.refuse(&job, Error::Interrupted);
    }
    for host in lease.in_flight().request_cancels() {
        asyncio::cancel(py, &host);
    }
    if lease.in_flight().is_cancelling() {
        // The watchdog wakes this thread when a cancelled task has not ended in time.
        notify_watchdog();
    }
}

/// Replies `interrupted` for every task of a lease, none of which will end. Called by the worker
/// when the lease ends or its loop was hit, and by the watchdog for an abandoned thread.
pub(crate) fn refuse_tasks(lease: &Lease, replies: &mut ReplyBuffer) {
    for job in lease.in_flight().clear() {
        lease.finish_job();
        replies.refuse(&job, Error::Interrupted);
    }
}
