//! The ticket of a job in flight: one atomic that decides every race between reply, cancel and
//! interrupt.
//!
//! Touched by the caller's scheduler thread (`cancel`, or the drop of the last handle when the
//! caller died, see [`crate::submission`]), by `py:interrupt/1`, by one worker (`start`, `complete`), and by the watchdog
//! when it takes the worker's place. Never blocks.
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
/// Runs, but must stop; the caller waits for `{error, interrupted}`.
const INTERRUPTED: u8 = 2;
const REPLIED: u8 = 3;
const CANCELLED: u8 = 4;
/// Runs, but must stop; the caller has been told `{error, interrupted}` already.
const STOPPING: u8 = 5;

/// Jobs accepted and not yet replied or cancelled, and how many of them there may be.
pub(crate) struct Pending {
    count: AtomicUsize,
    max: usize,
}

impl Pending {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let count = AtomicUsize::new(0);
        Arc::new(Self { count, max })
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// What became of a cancel.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Cancel {
    /// Nothing will ever be sent for this ticket.
    Cancelled,
    /// The reply is sent or about to be: the caller can receive it without a timeout.
    Replied,
}

/// What the end of a job owes its caller.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Completion {
    Reply,
    /// The reply, but it says `interrupted`, whatever the code made of that.
    Interrupted,
    /// Nothing: the caller has been told `interrupted` before.
    Early,
    /// Nothing: the caller waits no more.
    Nothing,
}

pub(crate) struct Ticket {
    state: AtomicU8,
    pending: Arc<Pending>,
}

impl Ticket {
    /// A new queued ticket, or `None` when there are `max` of them already.
    pub(crate) fn open(pending: &Arc<Pending>) -> Option<Arc<Self>> {
        if pending.count.fetch_add(1, Ordering::Relaxed) >= pending.max {
            pending.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self::queued(pending))
    }

    /// As `open`, also beyond `max`: for a job without which another, which is running, cannot end.
    pub(crate) fn admit(pending: &Arc<Pending>) -> Arc<Self> {
        pending.count.fetch_add(1, Ordering::Relaxed);
        Self::queued(pending)
    }

    fn queued(pending: &Arc<Pending>) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(QUEUED),
            pending: Arc::clone(pending),
        })
    }

    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// The worker takes the job; `false` when it was cancelled before that.
    pub(crate) fn start(&self) -> bool {
        self.step(QUEUED, RUNNING)
    }

    /// The caller waits for `{error, interrupted}`.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.state.load(Ordering::SeqCst) == INTERRUPTED
    }

    /// The caller is told `interrupted` now, though the code goes on for a while; `false` if it does
    /// not wait for that.
    pub(crate) fn reply_early(&self) -> bool {
        let won = self.step(INTERRUPTED, STOPPING);
        if won {
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
        }
        won
    }

    /// The code has to stop, and its caller will hear so; `false` when there is no such code.
    pub(crate) fn interrupt(&self) -> bool {
        self.step(RUNNING, INTERRUPTED) || self.state.load(Ordering::SeqCst) == INTERRUPTED
    }

    /// Nobody waits for what the code is doing, so it must stop.
    pub(crate) fn is_unwanted(&self) -> bool {
        matches!(
            self.state.load(Ordering::SeqCst),
            INTERRUPTED | CANCELLED | STOPPING
        )
    }

    /// There is neither a reply nor a cancel.
    pub(crate) fn is_pending(&self) -> bool {
        !matches!(
            self.state.load(Ordering::SeqCst),
            REPLIED | CANCELLED | STOPPING
        )
    }

    /// There is a reply, and this says whether to send it. A job that was refused before it ran
    /// completes from `queued`.
    pub(crate) fn complete(&self) -> Completion {
        // `interrupted` last: nothing leads from there to the others.
        let completion = if self.step(RUNNING, REPLIED) || self.step(QUEUED, REPLIED) {
            Completion::Reply
        } else if self.step(INTERRUPTED, REPLIED) {
            Completion::Interrupted
        } else if self.step(STOPPING, REPLIED) {
            return Completion::Early;
        } else {
            return Completion::Nothing;
        };
        // Before the send: who has received a reply no longer counts as pending.
        self.pending.count.fetch_sub(1, Ordering::Relaxed);
        completion
    }

    /// Idempotent: a cancelled ticket stays cancelled.
    pub(crate) fn cancel(&self) -> Cancel {
        if self.cancel_queued() {
            return Cancel::Cancelled;
        }
        if self.step(RUNNING, CANCELLED) || self.step(INTERRUPTED, CANCELLED) {
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
            notify_watchdog();
            return Cancel::Cancelled;
        }
        match self.state.load(Ordering::SeqCst) {
            REPLIED | STOPPING => Cancel::Replied,
            _ => Cancel::Cancelled,
        }
    }

    /// Cancels a job that no worker has taken; `false` when one has.
    pub(crate) fn cancel_queued(&self) -> bool {
        let won = self.step(QUEUED, CANCELLED);
        if won {
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
        }
        won
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
