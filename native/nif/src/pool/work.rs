//! The items of the queue of a pool. Made on scheduler threads; served by workers, or refused by a thread that
//! may send.

use std::sync::Arc;

use super::Lease;
use crate::error::Error;
use crate::job::{Job, ReplyBuffer};

/// An item of the pool's queue, for an unleased worker.
pub(crate) enum Work {
    Job(Arc<Job>),
    /// A lease, to be served until it ends.
    Lease(Arc<Lease>),
}

impl Work {
    /// Refuses what no worker will serve. Sends, so it is called on no scheduler thread.
    pub(crate) fn refuse(self, replies: &mut ReplyBuffer) {
        match self {
            Self::Job(job) => replies.refuse(&job, Error::NoWorkersAvailable),
            Self::Lease(lease) => {
                lease.end();
                lease.leave(replies, || Error::ContextNotBound);
            }
        }
    }
}
