//! The ticket of a job in flight: one atomic that decides every race between reply, cancel and
//! interrupt.
//!
//! Called on the caller's scheduler thread (`cancel`, also by the drop of the last handle when the
//! caller has died, see [`crate::pool::Submission`]), by `py:interrupt/1`, by one worker (`start`,
//! `complete`), and by the watchdog in the worker's place. Never blocks.
//!
//! ```text
//! queued --> running --> replied
//!    |          |   \----> interrupted --> replied
//!    |          |              |  \----> stopping --> replied
//!    \----------\--> cancelled <--/
//! ```

#[cfg(test)]
use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::Arc;
#[cfg(not(test))]
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::vm::notify_watchdog;

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
/// The state of a job that runs but must stop, and whose caller waits for `{error, interrupted}`.
const INTERRUPTED: u8 = 2;
const REPLIED: u8 = 3;
const CANCELLED: u8 = 4;
/// The state of a job that runs but must stop, and whose caller has `{error, interrupted}` already.
const STOPPING: u8 = 5;

/// The number of jobs that were accepted and are neither replied nor cancelled, and its bound; and how many
/// there have been.
pub(crate) struct Pending {
    count: AtomicUsize,
    max: usize,
    opened: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
    cancelled: AtomicUsize,
}

/// How many jobs there have been.
pub(crate) struct JobTotals {
    /// The jobs that were accepted.
    pub(crate) accepted: usize,
    /// Those of them that have got a reply, and those whose reply was an error.
    pub(crate) replied: usize,
    pub(crate) failed: usize,
    /// Those that were cancelled: their callers did not wait for the reply.
    pub(crate) cancelled: usize,
}

impl Pending {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            max,
            opened: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts a reply that is an error.
    pub(crate) fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many jobs there have been. The counters are read one after the other, and jobs go on.
    pub(crate) fn totals(&self) -> JobTotals {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        // In this order, so that no job is counted as replied before it is.
        let (failed, cancelled, refused) =
            (of(&self.failed), of(&self.cancelled), of(&self.refused));
        let accepted = of(&self.opened).saturating_sub(refused);
        JobTotals {
            accepted,
            replied: accepted.saturating_sub(self.count() + cancelled),
            failed,
            cancelled,
        }
    }
}

/// The outcome of a cancel.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Cancel {
    /// No message will ever be sent for this ticket.
    Cancelled,
    /// The reply is sent or about to be: the caller can receive it without a timeout.
    Replied,
}

/// The message that has to be sent at the end of a job.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Completion {
    Reply,
    /// A reply that says `interrupted`, whatever result the code has produced.
    Interrupted,
    /// No message: the caller has the reply `interrupted` already.
    Early,
    /// No message: the caller has cancelled, or has its reply.
    Nothing,
}

pub(crate) struct Ticket {
    state: AtomicU8,
    pending: Arc<Pending>,
}

impl Ticket {
    /// Opens a ticket for a queued job; `None` if `max` jobs are pending.
    pub(crate) fn open(pending: &Arc<Pending>) -> Option<Arc<Self>> {
        if pending.count.fetch_add(1, Ordering::Relaxed) >= pending.max {
            pending.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self::queued(pending))
    }

    /// Opens a ticket also beyond `max`: for a job without which another, which runs, cannot end.
    pub(crate) fn admit(pending: &Arc<Pending>) -> Arc<Self> {
        pending.count.fetch_add(1, Ordering::Relaxed);
        Self::queued(pending)
    }

    fn queued(pending: &Arc<Pending>) -> Arc<Self> {
        pending.opened.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            state: AtomicU8::new(QUEUED),
            pending: Arc::clone(pending),
        })
    }

    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// Starts the job; `false` if it was cancelled before. Called by the worker that has taken it.
    pub(crate) fn start(&self) -> bool {
        self.step(QUEUED, RUNNING)
    }

    /// Returns `true` if the caller waits for `{error, interrupted}`.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.state.load(Ordering::SeqCst) == INTERRUPTED
    }

    /// Claims the reply `interrupted` while the code still runs; `false` if the caller does not
    /// wait for it. Called by the watchdog, which sends the reply then.
    pub(crate) fn reply_early(&self) -> bool {
        let won = self.step(INTERRUPTED, STOPPING);
        if won {
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
        }
        won
    }

    /// Interrupts the job: its code must stop, and its caller will get `interrupted`. `false` if
    /// the job does not run, or was cancelled.
    pub(crate) fn interrupt(&self) -> bool {
        self.step(RUNNING, INTERRUPTED) || self.state.load(Ordering::SeqCst) == INTERRUPTED
    }

    /// Returns `true` if no caller waits for the result of the code, so that it must stop.
    pub(crate) fn is_unwanted(&self) -> bool {
        matches!(
            self.state.load(Ordering::SeqCst),
            INTERRUPTED | CANCELLED | STOPPING
        )
    }

    /// Returns `true` if the job is neither replied nor cancelled.
    pub(crate) fn is_pending(&self) -> bool {
        !matches!(
            self.state.load(Ordering::SeqCst),
            REPLIED | CANCELLED | STOPPING
        )
    }

    /// Ends the job, and returns the message that the calling thread has to send. A job that is
    /// refused before it runs completes from `queued`.
    pub(crate) fn complete(&self) -> Completion {
        // In the order of the transitions, so that a concurrent one is found by a later step.
        let completion = if self.step(RUNNING, REPLIED) || self.step(QUEUED, REPLIED) {
            Completion::Reply
        } else if self.step(INTERRUPTED, REPLIED) {
            Completion::Interrupted
        } else if self.step(STOPPING, REPLIED) {
            return Completion::Early;
        } else {
            return Completion::Nothing;
        };
        // Counted down before the send: a caller that has its reply does not count as pending.
        self.pending.count.fetch_sub(1, Ordering::Relaxed);
        completion
    }

    /// Cancels the job, and notifies the watchdog if it runs. Idempotent: a cancelled ticket stays
    /// cancelled. Called on a scheduler thread.
    pub(crate) fn cancel(&self) -> Cancel {
        if self.cancel_queued() {
            return Cancel::Cancelled;
        }
        if self.step(RUNNING, CANCELLED) || self.step(INTERRUPTED, CANCELLED) {
            self.count_cancel();
            notify_watchdog();
            return Cancel::Cancelled;
        }
        match self.state.load(Ordering::SeqCst) {
            REPLIED | STOPPING => Cancel::Replied,
            _ => Cancel::Cancelled,
        }
    }

    /// Cancels a job that no worker has started; `false` if one has, or the job is cancelled
    /// already.
    pub(crate) fn cancel_queued(&self) -> bool {
        let won = self.step(QUEUED, CANCELLED);
        if won {
            self.count_cancel();
        }
        won
    }

    /// Ends a job that was not accepted after all; `false` if it has got its end meanwhile. Called on a scheduler
    /// thread, by the one that submits.
    pub(crate) fn refuse(&self) -> bool {
        let won = self.step(QUEUED, CANCELLED);
        if won {
            self.pending.refused.fetch_add(1, Ordering::Relaxed);
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
        }
        won
    }

    fn count_cancel(&self) {
        self.pending.cancelled.fetch_add(1, Ordering::Relaxed);
        self.pending.count.fetch_sub(1, Ordering::Relaxed);
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
