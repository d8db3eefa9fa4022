//! The ticket of a job in flight: one atomic that decides every race between reply and cancel.
//!
//! Touched by the caller's scheduler thread (`cancel`, or the drop of the last handle when the
//! caller died) and by one worker (`start`, `complete`). Never blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const REPLIED: u8 = 2;
const CANCELLED: u8 = 3;

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
        Some(Arc::new(Self {
            state: AtomicU8::new(QUEUED),
            pending: Arc::clone(pending),
        }))
    }

    /// The worker takes the job; `false` when it was cancelled before that.
    pub(crate) fn start(&self) -> bool {
        self.step(QUEUED, RUNNING)
    }

    /// The worker has a reply; `true` when it must be sent, `false` when nobody waits any more.
    /// A job that was refused before it ran completes from `queued`.
    pub(crate) fn complete(&self) -> bool {
        let won = self.step(RUNNING, REPLIED) || self.step(QUEUED, REPLIED);
        if won {
            // Before the send: who has received a reply no longer counts as pending.
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
        }
        won
    }

    /// Idempotent: a cancelled ticket stays cancelled.
    pub(crate) fn cancel(&self) -> Cancel {
        if self.cancel_queued() {
            return Cancel::Cancelled;
        }
        if self.step(RUNNING, CANCELLED) {
            self.pending.count.fetch_sub(1, Ordering::Relaxed);
            return Cancel::Cancelled;
        }
        match self.state.load(Ordering::Acquire) {
            REPLIED => Cancel::Replied,
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
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// What the caller holds. A caller that dies drops it, and that cancels its job.
pub(crate) struct Handle(pub(crate) Arc<Ticket>);

#[rustler::resource_impl]
impl rustler::Resource for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> (Arc<Pending>, Arc<Ticket>) {
        let pending = Pending::new(2);
        let ticket = Ticket::open(&pending).unwrap();
        (pending, ticket)
    }

    #[test]
    fn reply_wins_once() {
        let (pending, ticket) = ticket();
        assert!(ticket.start());
        assert!(ticket.complete());
        assert!(!ticket.complete());
        assert_eq!(ticket.cancel(), Cancel::Replied);
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn cancelled_while_queued_never_starts() {
        let (pending, ticket) = ticket();
        assert_eq!(ticket.cancel(), Cancel::Cancelled);
        assert_eq!(ticket.cancel(), Cancel::Cancelled);
        assert!(!ticket.start());
        assert!(!ticket.complete());
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn cancelled_while_running_is_never_replied() {
        let (_pending, ticket) = ticket();
        assert!(ticket.start());
        assert_eq!(ticket.cancel(), Cancel::Cancelled);
        assert!(!ticket.complete());
    }

    #[test]
    fn refused_job_replies_without_running() {
        let (pending, ticket) = ticket();
        assert!(ticket.complete());
        assert!(!ticket.start());
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn no_more_than_max_tickets() {
        let (pending, first) = ticket();
        let second = Ticket::open(&pending);
        assert!(second.is_some());
        assert!(Ticket::open(&pending).is_none());
        assert_eq!(pending.count(), 2);
        first.cancel();
        assert!(Ticket::open(&pending).is_some());
    }

    #[test]
    fn dropped_handle_cancels() {
        let (pending, ticket) = ticket();
        drop(Handle(Arc::clone(&ticket)));
        assert!(!ticket.start());
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn reply_and_cancel_race_has_one_winner() {
        for _ in 0..2_000 {
            let (pending, ticket) = ticket();
            assert!(ticket.start());
            let other = Arc::clone(&ticket);
            let canceller = std::thread::spawn(move || other.cancel());
            let replied = ticket.complete();
            let cancel = canceller.join().unwrap();
            assert_eq!(replied, cancel == Cancel::Replied);
            assert_eq!(pending.count(), 0);
        }
    }
}
