//! How the watchdog looks at a slot: whether what runs there has to stop, how often it was told so,
//! and when its thread is given up. Never attaches; the lock is held for a look.

use std::time::{Duration, Instant};

use super::{Slot, Task};
use crate::context::Lease;
use crate::watchdog;

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

/// What the watchdog has to do about a slot.
#[derive(Default)]
pub(crate) struct Verdict {
    /// When to look again.
    pub(crate) again: Option<Instant>,
    /// Have the interrupter raise an exception in the thread.
    pub(crate) raise: bool,
    /// The thread was just abandoned in the middle of this.
    pub(crate) abandoned: Option<Task>,
}

impl Slot {
    /// Runs on the watchdog.
    pub(crate) fn inspect(&self, now: Instant, grace: Duration) -> Verdict {
        let mut guard = self.state();
        let state = &mut *guard;
        let patience = match &state.task {
            Some(Task::Job(job, lease)) => {
                if self.is_closed(lease.as_deref()) {
                    job.chain().for_each(|job| _ = job.ticket.interrupt());
                }
                // Whoever waited for an abandoned thread has had its reply.
                if !state.abandoned && !job.is_unwanted() {
                    return Verdict::default();
                }
                Duration::ZERO
            }
            Some(Task::Flights(lease)) => {
                if self.is_closed(Some(lease)) {
                    lease.board().interrupt_all();
                }
                if !state.abandoned && !lease.board().has_unwanted() {
                    // The loop has taken notice of what was unwanted.
                    state.alarm = None;
                    return Verdict::default();
                }
                // A loop that goes round cancels its task. One that does not is stopped.
                lease.ring();
                grace / 2
            }
            Some(Task::Cleaning(_)) => grace,
            None => return Verdict::default(),
        };
        let is_abandoned = state.abandoned;
        let alarm = state.alarm.get_or_insert_with(|| Alarm {
            since: now,
            next: now + patience,
            raised: 0,
        });
        let deadline = alarm.since + patience + grace;
        let mut verdict = Verdict::default();
        if alarm.next <= now {
            verdict.raise = true;
            state.due = true;
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
        verdict.again = Some(alarm.next);
        if !is_abandoned && deadline <= now {
            state.abandoned = true;
            watchdog::count_abandoned();
            self.thread.rename(c"py_abandoned");
            verdict.abandoned = state.task.clone();
        } else if !is_abandoned {
            verdict.again = Some(alarm.next.min(deadline));
        }
        verdict
    }

    /// Nobody waits for what runs here.
    fn is_closed(&self, lease: Option<&Lease>) -> bool {
        lease.is_some_and(Lease::is_ended) || self.pool().is_some_and(|pool| pool.is_closed())
    }
}
