//! A job that was submitted, for those who may cancel it: its caller, and the stream that the job is a
//! demand of. Called on scheduler threads: nothing blocks, attaches or sends.

use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustler::Resource;

use crate::job::{CallbackQueue, Cancel, Ticket};

/// Where jobs wait.
pub(crate) trait JobQueue: Send + Sync {
    /// Takes out a job that was cancelled. A thread that has taken the job before finds out by its
    /// ticket.
    fn withdraw(&self, key: u64);
}

impl JobQueue for CallbackQueue {
    fn withdraw(&self, key: u64) {
        CallbackQueue::withdraw(self, key);
    }
}

pub(crate) struct Submission {
    ticket: Arc<Ticket>,
    queue: Weak<dyn JobQueue>,
    /// The key of the job in that queue.
    key: u64,
}

impl Submission {
    /// A job that has entered `queue` under `key`.
    pub(crate) fn new(ticket: Arc<Ticket>, queue: Weak<dyn JobQueue>, key: u64) -> Self {
        Self { ticket, queue, key }
    }

    /// A job that still waits gives back its room in the queue and its arguments, now.
    pub(crate) fn cancel(&self) -> Cancel {
        if !self.ticket.cancel_queued() {
            return self.ticket.cancel();
        }
        if let Some(queue) = self.queue.upgrade() {
            queue.withdraw(self.key);
        }
        Cancel::Cancelled
    }

    /// The reply is neither sent nor about to be, and the job is not cancelled.
    pub(crate) fn is_pending(&self) -> bool {
        self.ticket.is_pending()
    }
}

/// What the caller holds. A caller that dies drops it, and that cancels its job.
pub(crate) struct SubmissionHandle {
    pub(crate) submission: Submission,
    /// An await has begun, and takes the reply or cancels the job.
    is_taken: AtomicBool,
}

// A queue is whole after each operation, whatever panics: see `py_engine::lock`.
impl RefUnwindSafe for SubmissionHandle {}

impl SubmissionHandle {
    pub(crate) fn new(submission: Submission) -> Self {
        Self {
            submission,
            is_taken: AtomicBool::new(false),
        }
    }

    /// The caller awaits the reply from now on; `false` if it did that before.
    pub(crate) fn take(&self) -> bool {
        !self.is_taken.swap(true, Ordering::SeqCst)
    }
}

#[rustler::resource_impl]
impl Resource for SubmissionHandle {}

impl Drop for SubmissionHandle {
    fn drop(&mut self) {
        self.submission.cancel();
    }
}
