//! A job that was submitted, for those who may cancel it: its caller, and the stream that it is a
//! demand of. Called on scheduler threads: nothing blocks, attaches or sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustler::Resource;

use crate::callback::Callback;
use crate::context::Lease;
use crate::error::Error;
use crate::job::Job;
use crate::pool::Pool;
use crate::ticket::{Cancel, Ticket};

pub(crate) struct Submission {
    ticket: Arc<Ticket>,
    queue: WaitsIn,
    /// The key of the job in that queue.
    key: u64,
}

/// The queue that a job was put into.
enum WaitsIn {
    Pool(Weak<Pool>),
    Lease(Weak<Lease>),
    Callback(Weak<Callback>),
}

impl Submission {
    pub(crate) fn to_pool(pool: &Arc<Pool>, job: Arc<Job>) -> Result<Self, Error> {
        let queue = WaitsIn::Pool(Arc::downgrade(pool));
        Self::new(queue, job, |job| pool.submit(job))
    }

    pub(crate) fn to_lease(lease: &Arc<Lease>, job: Arc<Job>) -> Result<Self, Error> {
        let queue = WaitsIn::Lease(Arc::downgrade(lease));
        Self::new(queue, job, |job| lease.submit(job))
    }

    pub(crate) fn to_callback(callback: &Arc<Callback>, job: Arc<Job>) -> Result<Self, Error> {
        let queue = WaitsIn::Callback(Arc::downgrade(callback));
        Self::new(queue, job, |job| callback.submit(job))
    }

    fn new(
        queue: WaitsIn,
        job: Arc<Job>,
        submit: impl FnOnce(Arc<Job>) -> Result<u64, Error>,
    ) -> Result<Self, Error> {
        let ticket = Arc::clone(&job.ticket);
        let key = submit(job)?;
        Ok(Self { ticket, queue, key })
    }

    /// A job that still waits gives back its place in the queue and its arguments, now.
    pub(crate) fn cancel(&self) -> Cancel {
        if !self.ticket.cancel_queued() {
            return self.ticket.cancel();
        }
        match &self.queue {
            WaitsIn::Pool(pool) => pool
                .upgrade()
                .iter()
                .for_each(|pool| pool.withdraw(self.key)),
            WaitsIn::Lease(lease) => lease.upgrade().iter().for_each(|l| l.withdraw(self.key)),
            WaitsIn::Callback(callback) => {
                callback.upgrade().iter().for_each(|c| c.withdraw(self.key));
            }
        }
        Cancel::Cancelled
    }

    /// The reply is neither sent nor about to be, and the job is not cancelled.
    pub(crate) fn is_pending(&self) -> bool {
        self.ticket.is_pending()
    }
}

/// What the caller holds. A caller that dies drops it, and that cancels its job.
pub(crate) struct Handle {
    pub(crate) submission: Submission,
    /// An await has begun, and takes the reply or cancels the job.
    is_taken: AtomicBool,
}

impl Handle {
    pub(crate) fn new(submission: Submission) -> Self {
        Self {
            submission,
            is_taken: AtomicBool::new(false),
        }
    }

    /// The caller awaits the reply from here on; `false` if it did that before.
    pub(crate) fn take(&self) -> bool {
        !self.is_taken.swap(true, Ordering::SeqCst)
    }
}

#[rustler::resource_impl]
impl Resource for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        self.submission.cancel();
    }
}
