//! How the watchdog looks at a slot: whether what runs there has to stop, how often it was told so,
//! and when its thread is given up. Never attaches; the lock is held for a look.

use std::time::{Duration, Instant};

use super::{Slot, Task, Watched};
use crate::context::Lease;
use crate::{flights, watchdog};

/// Code that swallows an interruption is interrupted again, so many times before its thread is
/// abandoned. In between it has time to clean up after itself.
const INTERRUPTIONS: u32 = 20;
/// And from then on at this interval: one of them may meet a loop outside its `try`.
const LAST_INTERVAL: Duration = Duration::from_secs(1);

/// A task that somebody has to stop.
pub(super) struct Alarm {
    since: Instant,
    next: Instant,
    /// How many exceptions were raised so far.
    raised: u32,
}

impl Alarm {
    /// What was raised last has been taken back.
    pub(super) fn repeat(&mut self) {
        self.next = self.since;
    }
}

/// What the watchdog has to do about a slot.
#[derive(Default)]
pub(crate) struct Verdict {
    /// When to look again.
    pub(crate) again: Option<Instant>,
    /// Have the interrupter raise an exception in the thread.
    pub(crate) raise: bool,
    /// The thread was just abandoned in the middle of these, outermost first.
    pub(crate) abandoned: Option<Vec<Task>>,
}

impl Slot {
    /// Runs on the watchdog.
    pub(crate) fn inspect(&self, now: Instant, grace: Duration) -> Verdict {
        let mut guard = self.state();
        let state = &mut *guard;
        let bell = state.bell.as_ref();
        let is_abandoned = state.abandoned;
        let mut verdict = Verdict::default();
        let mut is_late = false;
        // From the outermost: what it is in the middle of does not put it off.
        let mut is_within_job = false;
        for Watched { task, alarm } in &mut state.tasks {
            let is_nested = std::mem::replace(&mut is_within_job, matches!(task, Task::Job(..)));
            let patience = match task {
                Task::Job(job, lease) => {
                    if self.is_closed(lease.as_deref()) {
                        job.ticket.interrupt();
                    }
                    // The job that this one belongs to was looked at, or is one of the flights.
                    let is_unwanted = if is_nested {
                        job.ticket.is_unwanted()
                    } else {
                        job.is_unwanted()
                    };
                    if let Some(lease) = lease {
                        let next = tend_flights(lease, now);
                        verdict.again = verdict.again.into_iter().chain(next).min();
                    }
                    // Whoever waited for an abandoned thread has had its reply.
                    if !is_abandoned && !is_unwanted {
                        continue;
                    }
                    match lease.as_deref().filter(|lease| lease.flies_by(bell)) {
                        // An exception would hit others: the loop cancels it, if it goes round.
                        Some(lease) => {
                            lease.ring();
                            grace / 2
                        }
                        None => Duration::ZERO,
                    }
                }
                Task::Flights(lease) => {
                    let board = lease.board();
                    let is_closed = self.is_closed(Some(lease));
                    if is_closed {
                        board.interrupt_all();
                    }
                    if !is_abandoned && !is_closed && !board.is_due() {
                        // The loop has taken notice of what was unwanted.
                        *alarm = None;
                        let next = tend_flights(lease, now);
                        verdict.again = verdict.again.into_iter().chain(next).min();
                        continue;
                    }
                    // A loop that goes round sees to it, or ends. One that does not is stopped.
                    lease.ring();
                    grace / 2
                }
                Task::Cleaning(_) => grace,
            };
            let alarm = alarm.get_or_insert_with(|| Alarm {
                since: now,
                next: now + patience,
                raised: 0,
            });
            if alarm.next <= now {
                verdict.raise = true;
                if alarm.raised > 0 {
                    // The exception waits in the thread by now: let a blocking call end for it.
                    self.thread.signal();
                }
                alarm.raised += 1;
                alarm.next = now
                    + if is_abandoned {
                        LAST_INTERVAL
                    } else {
                        grace / INTERRUPTIONS
                    };
            }
            let deadline = alarm.since + patience + grace;
            is_late |= deadline <= now;
            let next = if is_abandoned || deadline <= now {
                alarm.next
            } else {
                alarm.next.min(deadline)
            };
            verdict.again = verdict.again.into_iter().chain([next]).min();
        }
        state.due |= verdict.raise;
        if is_late && !is_abandoned {
            state.abandoned = true;
            watchdog::count_abandoned();
            self.thread.rename(c"py_abandoned");
            let tasks = state.tasks.iter().map(|watched| watched.task.clone());
            verdict.abandoned = Some(tasks.collect());
        }
        verdict
    }

    /// Nobody waits for what runs here.
    fn is_closed(&self, lease: Option<&Lease>) -> bool {
        lease.is_some_and(Lease::is_ended) || self.pool().is_some_and(|pool| pool.is_closed())
    }
}

/// Has the loop see to its flights, and says when to look again. It goes round also while a call
/// waits in it.
fn tend_flights(lease: &Lease, now: Instant) -> Option<Instant> {
    let board = lease.board();
    if board.is_due() {
        lease.ring();
    }
    board.has_noticed().then(|| now + flights::PATIENCE)
}
