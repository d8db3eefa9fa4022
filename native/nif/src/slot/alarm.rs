//! How the watchdog looks at a slot: whether what runs there has to stop, how often it was told so,
//! and when its thread is abandoned. Never attaches; the lock is held for a look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Slot, State, Task};
use crate::context::Lease;
use crate::flights;
use crate::job::Job;
use crate::watchdog::{self, Limits};

/// Code that swallows an interruption is interrupted again, this many times before its thread is
/// abandoned. In between it has time to clean up after itself.
const INTERRUPTIONS: u32 = 20;
/// And after that at this interval: one of them may meet a loop outside its `try`.
const LAST_INTERVAL: Duration = Duration::from_secs(1);

/// A task that has to stop.
pub(super) struct Alarm {
    /// Since when it has to.
    noticed: Instant,
    /// Since when it can be interrupted: an import that had begun has ended then.
    since: Instant,
    next: Instant,
    /// How many exceptions were raised so far.
    raised: u32,
}

impl Alarm {
    fn new(now: Instant, patience: Duration) -> Self {
        Self {
            noticed: now,
            since: now,
            next: now + patience,
            raised: 0,
        }
    }

    /// What was raised last has been taken back.
    pub(super) fn repeat(&mut self) {
        self.next = self.since;
    }

    /// An import has ended, under which nothing was raised.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.next = now;
    }

    /// When the thread is abandoned. Code that goes on importing gains no time beyond one
    /// `import_grace`.
    fn deadline(&self, patience: Duration, is_importing: bool, limits: &Limits) -> Instant {
        let last = self.noticed + limits.import_grace;
        if is_importing {
            return last;
        }
        (self.since + patience + limits.grace).min(last + patience + limits.grace)
    }
}

/// What the watchdog has to do about a slot.
#[derive(Default)]
pub(crate) struct Verdict {
    /// When to look again.
    pub(crate) again: Option<Instant>,
    /// Have the interrupter raise an exception in the thread.
    pub(crate) raise: bool,
    /// Jobs that were interrupted, and that go on until an import ends: their callers wait.
    pub(crate) answer: Vec<Arc<Job>>,
    /// The thread was just abandoned in the middle of these, outermost first.
    pub(crate) abandoned: Option<Vec<Task>>,
}

impl Verdict {
    fn look_again(&mut self, at: impl IntoIterator<Item = Instant>) {
        self.again = self.again.into_iter().chain(at).min();
    }
}

impl Slot {
    /// Runs on the watchdog.
    pub(crate) fn inspect(&self, now: Instant, limits: &Limits) -> Verdict {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut verdict = Verdict::default();
        let mut is_late = false;
        let is_importing = state.imports > 0;
        let mut is_nested = false;
        // Outermost first: a nested task must not postpone the deadline of the task around it.
        for index in 0..state.tasks.len() {
            let patience = self.patience(state, index, is_nested, (now, limits), &mut verdict);
            let watched = &mut state.tasks[index];
            is_nested = matches!(watched.task, Task::Job(..));
            let Some(patience) = patience else {
                watched.alarm = None;
                continue;
            };
            if is_importing {
                verdict.answer.extend(interrupted_jobs(&watched.task));
            }
            let alarm = watched
                .alarm
                .get_or_insert_with(|| Alarm::new(now, patience));
            if alarm.next <= now && !is_importing {
                verdict.raise = true;
                if alarm.raised > 0 {
                    // The exception waits in the thread by now: let a blocking call end for it.
                    self.thread.signal();
                }
                alarm.raised += 1;
                alarm.next = now + interval(state.abandoned, limits);
            }
            let deadline = alarm.deadline(patience, is_importing, limits);
            is_late |= deadline <= now;
            let is_over = state.abandoned || deadline <= now;
            verdict.look_again((!is_importing).then_some(alarm.next));
            verdict.look_again((!is_over).then_some(deadline));
        }
        // Put off by an import, it is raised at its end.
        state.due |= verdict.raise || is_importing && state.has_alarm();
        if is_late && !state.abandoned {
            state.abandoned = true;
            watchdog::count_abandoned();
            self.thread.rename(c"py_abandoned");
            let tasks = state.tasks.iter().map(|watched| watched.task.clone());
            verdict.abandoned = Some(tasks.collect());
        }
        verdict
    }

    /// How long a task that has to stop may go on before it is interrupted; `None` for one that may
    /// go on.
    fn patience(
        &self,
        state: &State,
        index: usize,
        is_nested: bool,
        (now, limits): (Instant, &Limits),
        verdict: &mut Verdict,
    ) -> Option<Duration> {
        let (bell, is_abandoned) = (state.bell.as_ref(), state.abandoned);
        match &state.tasks[index].task {
            Task::Job(job, lease) => {
                if self.is_closed(lease.as_deref()) {
                    job.ticket.interrupt();
                }
                // The job that a nested one belongs to was looked at, or is one of the flights.
                let is_unwanted = if is_nested {
                    job.ticket.is_unwanted()
                } else {
                    job.is_unwanted()
                };
                if let Some(lease) = lease {
                    verdict.look_again(tend_flights(lease, now));
                }
                // The caller of an abandoned thread has had its reply.
                if !is_abandoned && !is_unwanted {
                    return None;
                }
                // An exception would hit others: the loop cancels it, if it goes round.
                let flies = lease.as_deref().filter(|lease| lease.flies_by(bell));
                flies.inspect(|lease| lease.ring());
                Some(flies.map_or(Duration::ZERO, |_| limits.grace / 2))
            }
            Task::Flights(lease) => {
                let board = lease.board();
                let is_closed = self.is_closed(Some(lease));
                if is_closed {
                    board.interrupt_all();
                }
                if !is_abandoned && !is_closed && !board.is_due() {
                    // The loop has taken notice of what was unwanted.
                    verdict.look_again(tend_flights(lease, now));
                    return None;
                }
                // A loop that goes round sees to it, or ends. One that does not is stopped.
                lease.ring();
                Some(limits.grace / 2)
            }
            Task::Cleaning(_) => Some(limits.grace),
        }
    }

    /// The lease or the pool of what runs here has ended.
    fn is_closed(&self, lease: Option<&Lease>) -> bool {
        lease.is_some_and(Lease::is_ended) || self.pool().is_some_and(|pool| pool.is_closed())
    }
}

impl State {
    fn has_alarm(&self) -> bool {
        self.tasks.iter().any(|watched| watched.alarm.is_some())
    }
}

fn interval(is_abandoned: bool, limits: &Limits) -> Duration {
    if is_abandoned {
        LAST_INTERVAL
    } else {
        limits.grace / INTERRUPTIONS
    }
}

/// The jobs of a task whose callers wait for `interrupted`.
fn interrupted_jobs(task: &Task) -> Vec<Arc<Job>> {
    let mut jobs = match task.lease() {
        Some(lease) => lease.board().interrupted(),
        None => Vec::new(),
    };
    if let Task::Job(job, _) = task
        && job.ticket.is_interrupted()
    {
        jobs.push(Arc::clone(job));
    }
    jobs
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
