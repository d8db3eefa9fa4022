//! How a task that has to stop is stopped: by a cancel of its coroutine, by exceptions, by signals, and
//! at last by abandoning its thread. Called by the watchdog; never attaches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::registry;
use super::watched_thread::{State, Task, WatchedThread};
use crate::job::{CANCEL_GRACE, Job};
use crate::pool::Lease;

/// How long code that must stop may go on. The last start of the application says.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// How long code has to stop before its thread is abandoned.
    pub(crate) grace: Duration,
    /// How long an import may go on after that its code has to stop.
    pub(crate) import_grace: Duration,
    /// How many abandoned threads are replaced.
    pub(crate) max_abandoned: usize,
}

/// Code that swallows an interruption is interrupted again, this many times before its thread is
/// abandoned. In between it has time to clean up after itself.
const INTERRUPTIONS: u32 = 20;
/// And after that at this interval: one of them may meet a loop outside its `try`.
const LAST_INTERVAL: Duration = Duration::from_secs(1);

/// A task that has to stop.
pub(super) struct Escalation {
    /// Since when it has to.
    noticed: Instant,
    /// Since when it can be interrupted: an import that had begun has ended then.
    since: Instant,
    next: Instant,
    /// How many exceptions were raised so far.
    raised: u32,
}

impl Escalation {
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
pub(crate) struct NextStep {
    /// When to look again.
    pub(crate) again: Option<Instant>,
    /// Have the interrupter raise an exception in the thread.
    pub(crate) raise: bool,
    /// Jobs that were interrupted, and that go on until an import ends: their callers wait.
    pub(crate) answer: Vec<Arc<Job>>,
    /// The thread was just abandoned in the middle of these, outermost first.
    pub(crate) abandoned: Option<Vec<Task>>,
}

impl NextStep {
    fn look_again(&mut self, at: impl IntoIterator<Item = Instant>) {
        self.again = self.again.into_iter().chain(at).min();
    }
}

impl WatchedThread {
    /// Runs on the watchdog.
    pub(crate) fn inspect(&self, now: Instant, limits: &Limits) -> NextStep {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut next_step = NextStep::default();
        let mut is_late = false;
        let is_importing = self.thread.is_importing();
        let is_abandoned = self.thread.is_abandoned();
        let mut is_nested = false;
        // Outermost first: a nested task must not postpone the deadline of the task around it.
        for index in 0..state.tasks.len() {
            let patience = self.patience(state, index, is_nested, (now, limits), &mut next_step);
            let running = &mut state.tasks[index];
            is_nested = matches!(running.task, Task::Job(..));
            let Some(patience) = patience else {
                running.escalation = None;
                continue;
            };
            if is_importing {
                next_step.answer.extend(interrupted_jobs(&running.task));
            }
            let escalation = running
                .escalation
                .get_or_insert_with(|| Escalation::new(now, patience));
            if escalation.next <= now && !is_importing {
                next_step.raise = true;
                if escalation.raised > 0 {
                    // The exception waits in the thread by now: let a blocking call end for it.
                    self.thread.signal();
                }
                escalation.raised += 1;
                escalation.next = now + interval(is_abandoned, limits);
            }
            let deadline = escalation.deadline(patience, is_importing, limits);
            is_late |= deadline <= now;
            let is_over = is_abandoned || deadline <= now;
            next_step.look_again((!is_importing).then_some(escalation.next));
            next_step.look_again((!is_over).then_some(deadline));
        }
        // Put off by an import, it is raised at its end.
        if next_step.raise || is_importing && state.has_escalation() {
            self.thread.request();
        }
        if is_late && !is_abandoned {
            self.thread.abandon();
            registry::count_abandoned();
            let tasks = state.tasks.iter().map(|running| running.task.clone());
            next_step.abandoned = Some(tasks.collect());
        }
        next_step
    }

    /// How long a task that has to stop may go on before it is interrupted; `None` for one that may
    /// go on.
    fn patience(
        &self,
        state: &State,
        index: usize,
        is_nested: bool,
        (now, limits): (Instant, &Limits),
        next_step: &mut NextStep,
    ) -> Option<Duration> {
        let is_abandoned = self.thread.is_abandoned();
        match &state.tasks[index].task {
            Task::Job(job, lease) => {
                if self.is_closed(lease.as_deref()) {
                    job.ticket.interrupt();
                }
                // The job that a nested one belongs to was looked at, or is one of the flights.
                let is_unwanted = if is_nested {
                    job.ticket.is_unwanted()
                } else {
                    job.must_stop()
                };
                if let Some(lease) = lease {
                    next_step.look_again(tend_tasks(lease, now));
                }
                // The caller of an abandoned thread has had its reply.
                if !is_abandoned && !is_unwanted {
                    return None;
                }
                // An exception would hit others: the loop cancels it, if it goes round.
                let flies = lease
                    .as_deref()
                    .filter(|lease| lease.runs_tasks_by(self.thread.loop_waker().as_ref()));
                flies.inspect(|lease| lease.wake_loop());
                Some(flies.map_or(Duration::ZERO, |_| limits.grace / 2))
            }
            Task::EventLoop(lease) => {
                let in_flight = lease.in_flight();
                let is_closed = self.is_closed(Some(lease));
                if is_closed {
                    in_flight.interrupt_all();
                }
                if !is_abandoned && !is_closed && !in_flight.is_due() {
                    // The loop has taken notice of what was unwanted.
                    next_step.look_again(tend_tasks(lease, now));
                    return None;
                }
                // A loop that goes round sees to it, or ends. One that does not is stopped.
                lease.wake_loop();
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
        Some(lease) => lease.in_flight().interrupted(),
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
fn tend_tasks(lease: &Lease, now: Instant) -> Option<Instant> {
    let in_flight = lease.in_flight();
    if in_flight.is_due() {
        lease.wake_loop();
    }
    in_flight.is_cancelling().then(|| now + CANCEL_GRACE)
}
