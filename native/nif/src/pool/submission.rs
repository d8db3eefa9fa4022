//! A submitted job, as its caller and its stream see it, which may cancel it. Called on scheduler
//! threads (NIFs and destructors): nothing blocks, attaches or sends.

use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustler::Resource;

use crate::job::{CallbackQueue, Cancel, Ticket};

/// A queue in which jobs wait.
pub(crate) trait JobQueue: Send + Sync {
    /// Takes out a job that was cancelled. A thread that has taken the job before finds the cancel
    /// in its ticket.
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
    /// The key of the job in `queue`.
    key: u64,
}

impl Submission {
    /// Makes the submission of a job that was pushed into `queue` under `key`.
    pub(crate) fn new(ticket: Arc<Ticket>, queue: Weak<dyn JobQueue>, key: u64) -> Self {
        Self { ticket, queue, key }
    }

    /// Cancels the job. One that still waits leaves its queue at once, with its arguments.
    pub(crate) fn cancel(&self) -> Cancel {
        if !self.ticket.cancel_queued() {
            return self.ticket.cancel();
        }
        if let Some(queue) = self.queue.upgrade() {
            queue.withdraw(self.key);
        }
        Cancel::Cancelled
    }

    /// Returns `true` if the reply is neither sent nor about to be, and the job is not cancelled.
    pub(crate) fn is_pending(&self) -> bool {
        self.ticket.is_pending()
    }
}

/// The handle that the caller holds. A caller that dies drops it, and the drop cancels its job.
pub(crate) struct SubmissionHandle {
    pub(crate) submission: Submission,
    /// An await has claimed the reply: it receives the reply, or cancels the job.
    is_taken: AtomicBool,
}

// A panic leaves no queue half changed: see `py_engine::lock`.
impl RefUnwindSafe for SubmissionHandle {}

impl SubmissionHandle {
    pub(crate) fn new(submission: Submission) -> Self {
        Self {
            submission,
            is_taken: AtomicBool::new(false),
        }
    }

    /// Claims the reply for an await; `false` if an earlier await has claimed it.
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
