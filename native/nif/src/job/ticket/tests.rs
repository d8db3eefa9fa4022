//! Tests of every interleaving of the threads that change a ticket, by loom. Run by `cargo test`
//! without a BEAM.

use super::*;
use loom::thread;

fn ticket() -> (Arc<Pending>, Arc<Ticket>) {
    let pending = Pending::new(2);
    let ticket = Ticket::open(&pending).unwrap();
    (pending, ticket)
}

fn running() -> (Arc<Pending>, Arc<Ticket>) {
    let (pending, ticket) = ticket();
    assert!(ticket.start());
    (pending, ticket)
}

/// Runs `act` on the ticket in a thread of its own.
fn beside<T: 'static>(
    ticket: &Arc<Ticket>,
    act: impl FnOnce(Arc<Ticket>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let ticket = Arc::clone(ticket);
    thread::spawn(move || act(ticket))
}

#[test]
fn reply_wins_once() {
    loom::model(|| {
        let (pending, ticket) = running();
        assert_eq!(ticket.complete(), Completion::Reply);
        assert_eq!(ticket.complete(), Completion::Nothing);
        assert_eq!(ticket.cancel(), Cancel::Replied);
        assert!(!ticket.interrupt());
        assert_eq!(pending.count(), 0);
    });
}

#[test]
fn cancelled_while_queued_never_starts() {
    loom::model(|| {
        let (pending, ticket) = ticket();
        assert_eq!(ticket.cancel(), Cancel::Cancelled);
        assert_eq!(ticket.cancel(), Cancel::Cancelled);
        assert!(!ticket.start());
        assert_eq!(ticket.complete(), Completion::Nothing);
        assert_eq!(pending.count(), 0);
    });
}

#[test]
fn queued_job_cannot_be_interrupted() {
    loom::model(|| {
        let (_pending, ticket) = ticket();
        assert!(!ticket.interrupt());
        assert!(ticket.start());
        assert!(!ticket.is_unwanted());
    });
}

#[test]
fn refused_job_replies_without_running() {
    loom::model(|| {
        let (pending, ticket) = ticket();
        assert_eq!(ticket.complete(), Completion::Reply);
        assert!(!ticket.start());
        assert_eq!(pending.count(), 0);
    });
}

#[test]
fn no_more_than_max_tickets() {
    loom::model(|| {
        let (pending, first) = ticket();
        let second = Ticket::open(&pending);
        assert!(second.is_some());
        assert!(Ticket::open(&pending).is_none());
        assert_eq!(pending.count(), 2);
        first.cancel();
        assert!(Ticket::open(&pending).is_some());
    });
}

#[test]
fn tickets_opened_together_stay_within_max() {
    loom::model(|| {
        let pending = Pending::new(1);
        let other = Arc::clone(&pending);
        let opener = thread::spawn(move || Ticket::open(&other).is_some());
        let opened = Ticket::open(&pending).is_some();
        let both = [opened, opener.join().unwrap()];
        let count = both.iter().filter(|opened| **opened).count();
        // Two threads may both be refused, but never both get a ticket.
        assert!(count <= 1);
        assert_eq!(pending.count(), count);
    });
}

/// A worker starts the job and replies, while the caller cancels.
#[test]
fn reply_and_cancel_have_one_winner() {
    loom::model(|| {
        let (pending, ticket) = ticket();
        let worker = beside(&ticket, |ticket| ticket.start().then(|| ticket.complete()));
        let cancel = ticket.cancel();
        match worker.join().unwrap() {
            Some(Completion::Reply) => assert_eq!(cancel, Cancel::Replied),
            Some(Completion::Early | Completion::Nothing) | None => {
                assert_eq!(cancel, Cancel::Cancelled)
            }
            Some(Completion::Interrupted) => panic!("no thread has interrupted the job"),
        }
        assert_eq!(pending.count(), 0);
    });
}

/// A worker starts the job and replies, the caller cancels, and a third thread interrupts.
#[test]
fn reply_cancel_and_interrupt_have_one_outcome() {
    loom::model(|| {
        let (pending, ticket) = ticket();
        let worker = beside(&ticket, |ticket| ticket.start().then(|| ticket.complete()));
        let interrupter = beside(&ticket, |ticket| ticket.interrupt());
        let cancel = ticket.cancel();
        let completion = worker.join().unwrap();
        let interrupted = interrupter.join().unwrap();
        match completion {
            Some(Completion::Reply) => assert!(!interrupted),
            Some(Completion::Interrupted) => assert!(interrupted),
            Some(Completion::Early | Completion::Nothing) | None => {
                assert_eq!(cancel, Cancel::Cancelled)
            }
        }
        let is_replied = !matches!(
            completion,
            Some(Completion::Early | Completion::Nothing) | None
        );
        assert_eq!(is_replied, cancel == Cancel::Replied);
        assert_eq!(pending.count(), 0);
    });
}

/// The caller dies, which drops its handle, while the worker starts and ends the job.
#[test]
fn death_of_the_caller_leaves_nothing_pending() {
    loom::model(|| {
        let (pending, ticket) = ticket();
        let worker = beside(&ticket, |ticket| ticket.start());
        // The steps of the drop of its `Submission`.
        if !ticket.cancel_queued() {
            ticket.cancel();
        }
        worker.join().unwrap();
        // The assertions hold whether the job has started or not.
        assert!(ticket.is_unwanted());
        assert!(!ticket.start());
        assert_eq!(ticket.complete(), Completion::Nothing);
        assert_eq!(pending.count(), 0);
    });
}

/// The watchdog replies in the worker's place, while the caller cancels.
#[test]
fn an_interrupted_call_gets_one_reply_or_none() {
    loom::model(|| {
        let (pending, ticket) = running();
        assert!(ticket.interrupt());
        let watchdog = beside(&ticket, |ticket| ticket.complete());
        let cancel = ticket.cancel();
        let completion = watchdog.join().unwrap();
        let expected = match cancel {
            Cancel::Cancelled => Completion::Nothing,
            Cancel::Replied => Completion::Interrupted,
        };
        assert_eq!(completion, expected);
        assert_eq!(pending.count(), 0);
    });
}

/// An interrupt that returns `true` has stopped the job: its caller gets `interrupted`.
#[test]
fn an_interrupt_that_wins_is_replied() {
    loom::model(|| {
        let (_pending, ticket) = running();
        let worker = beside(&ticket, |ticket| ticket.complete());
        let interrupted = ticket.interrupt();
        let expected = if interrupted {
            Completion::Interrupted
        } else {
            Completion::Reply
        };
        assert_eq!(worker.join().unwrap(), expected);
    });
}

/// The watchdog replies for a job in the middle of an import, while the caller cancels and the code
/// ends.
#[test]
fn an_early_reply_is_the_only_one() {
    loom::model(|| {
        let (pending, ticket) = running();
        assert!(ticket.interrupt());
        let watchdog = beside(&ticket, |ticket| ticket.reply_early());
        let worker = beside(&ticket, |ticket| ticket.complete());
        let cancel = ticket.cancel();
        let is_early = watchdog.join().unwrap();
        let completion = worker.join().unwrap();
        let replies = usize::from(is_early) + usize::from(completion == Completion::Interrupted);
        assert_eq!(replies, usize::from(cancel == Cancel::Replied));
        assert_eq!(pending.count(), 0);
    });
}

#[test]
fn code_must_stop_after_an_early_reply() {
    loom::model(|| {
        let (pending, ticket) = running();
        assert!(!ticket.reply_early());
        assert!(ticket.interrupt());
        assert!(ticket.reply_early());
        assert!(ticket.is_unwanted());
        assert!(!ticket.is_pending());
        assert_eq!(ticket.cancel(), Cancel::Replied);
        assert_eq!(ticket.complete(), Completion::Early);
        assert_eq!(pending.count(), 0);
    });
}
