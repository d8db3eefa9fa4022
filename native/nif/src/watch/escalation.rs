//! The escalation of a task that has to stop: its coroutine is cancelled, exceptions are raised in
//! its thread, with signals, and at the end the thread is abandoned.
//!
//! Called by the watchdog in each round, under the lock of the watched thread; never attaches or
//! sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::registry;
use super::watched_thread::{State, Task, WatchedThread};
use crate::job::{CANCEL_GRACE, Job};
use crate::pool::Lease;

/// How long code that must stop may go on: the configuration of the last start of the application.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// How long code has to stop before its thread is abandoned.
    pub(crate) grace: Duration,
    /// How long an import may go on after its code had to stop.
    pub(crate) import_grace: Duration,
    /// How many abandoned threads are replaced at a time.
    pub(crate) max_abandoned: usize,
}

/// The number of exceptions that are raised before a thread is abandoned, for code that swallows
/// them. Between two of them the code has time to clean up after itself.
const INTERRUPTIONS: u32 = 20;
/// The time between two exceptions in an abandoned thread: one of them may hit its code outside of
/// the `try` that swallows them.
const ABANDONED_INTERVAL: Duration = Duration::from_secs(1);

/// A task that has to stop.
pub(super) struct Escalation {
    /// When the watchdog found that the task has to stop.
    found_at: Instant,
    /// Since when the task can be interrupted: `found_at`, or the end of a later import.
    since: Instant,
    /// When the next exception is due.
    next_raise: Instant,
    /// How many exceptions were requested so far.
    raised: u32,
}

impl Escalation {
    fn new(now: Instant, patience: Duration) -> Self {
        Self {
            found_at: now,
            since: now,
            next_raise: now + patience,
            raised: 0,
        }
    }

    /// Makes the next exception due at once: the last one was withdrawn with an inner task.
    pub(super) fn repeat(&mut self) {
        self.next_raise = self.since;
    }

    /// Starts the escalation again: an import that has masked exceptions is about to end.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.next_raise = now;
    }

    /// Returns when the thread is abandoned. Code that goes on importing gains no time beyond one
    /// `import_grace`.
    fn deadline(&self, patience: Duration, is_importing: bool, limits: &Limits) -> Instant {
        let last = self.found_at + limits.import_grace;
        if is_importing {
            return last;
        }
        (self.since + patience + limits.grace).min(last + patience + limits.grace)
    }
}

/// The steps that the watchdog has to take for a thread, when the lock of the thread is free again.
#[derive(Default)]
pub(crate) struct NextStep {
    /// When to look again.
    pub(crate) again: Option<Instant>,
    /// An exception was requested: notify the interrupter.
    pub(crate) raise: bool,
    /// Interrupted jobs that go on until an import ends: reply to their callers, who wait.
    pub(crate) answer: Vec<Arc<Job>>,
    /// The thread was just abandoned in the middle of these tasks, outermost first.
    pub(crate) abandoned: Option<Vec<Task>>,
}

impl NextStep {
    fn look_again(&mut self, at: impl IntoIterator<Item = Instant>) {
        self.again = self.again.into_iter().chain(at).min();
    }
}

impl WatchedThread {
    /// Looks at the tasks of the thread, requests exceptions, and abandons the thread if a deadline
    /// is over. Called by the watchdog; takes the lock of the thread.
    pub(crate) fn inspect(&self, now: Instant, limits: &Limits) -> NextStep {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut next_step = NextStep::default();
        let mut is_overdue = false;
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
            if escalation.next_raise <= now && !is_importing {
                next_step.raise = true;
                self.raise_again(escalation, now + interval(is_abandoned, limits));
            }
            let deadline = escalation.deadline(patience, is_importing, limits);
            is_overdue |= deadline <= now;
            let is_over = is_abandoned || deadline <= now;
            next_step.look_again((!is_importing).then_some(escalation.next_raise));
            next_step.look_again((!is_over).then_some(deadline));
        }
        self.act(state, is_importing, is_overdue, &mut next_step);
        next_step
    }

    /// Counts one exception more for a task, and ends a system call if the one before is still pending.
    fn raise_again(&self, escalation: &mut Escalation, next_raise: Instant) {
        if escalation.raised > 0 {
            self.thread.signal();
        }
        escalation.raised += 1;
        escalation.next_raise = next_raise;
    }

    /// Requests an exception, and abandons a thread that is overdue, under the lock of its state.
    fn act(&self, state: &State, is_importing: bool, is_overdue: bool, next_step: &mut NextStep) {
        // An exception that is masked by an import stays pending, and is raised at the end of it.
        if next_step.raise || is_importing && state.has_escalation() {
            self.thread.request();
        }
        if is_overdue && !self.thread.is_abandoned() {
            self.thread.abandon();
            registry::count_abandoned();
            let tasks = state.tasks.iter().map(|running| running.task.clone());
            next_step.abandoned = Some(tasks.collect());
        }
    }

    /// Returns how long a task that has to stop may go on before an exception is raised in it;
    /// `None` for a task that may go on. Wakes the event loop of a lease that has tasks to cancel.
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
                if let Some(lease) = lease {
                    next_step.look_again(wake_for_cancels(lease, now));
                }
                self.patience_of_job(job, lease.as_deref(), is_nested, limits)
                    .or_else(|| self.patience_of_tasks(lease.as_deref()?, limits))
            }
            Task::EventLoop(lease) => {
                let in_flight = lease.in_flight();
                let is_closed = self.is_closed(Some(lease));
                if is_closed {
                    in_flight.interrupt_all();
                }
                if !is_abandoned && !is_closed && !in_flight.is_due() {
                    // No cancel is due: the loop has requested those of tasks that must stop.
                    next_step.look_again(wake_for_cancels(lease, now));
                    return None;
                }
                // A loop that is not stuck cancels its tasks, or ends; a stuck one is interrupted.
                lease.wake_loop();
                Some(limits.grace / 2)
            }
            Task::Cleaning(_) => Some(limits.grace),
        }
    }

    /// Like [`Self::patience`], for a job.
    fn patience_of_job(
        &self,
        job: &Job,
        lease: Option<&Lease>,
        is_nested: bool,
        limits: &Limits,
    ) -> Option<Duration> {
        if self.is_closed(lease) {
            job.ticket.interrupt();
        }
        // The ancestors of a nested job are tasks before this one, or in flight.
        let is_unwanted = if is_nested {
            job.ticket.is_unwanted()
        } else {
            job.must_stop()
        };
        // The callers of an abandoned thread have their replies.
        if !self.thread.is_abandoned() && !is_unwanted {
            return None;
        }
        // An exception in the lease's loop could hit another task: the loop cancels the call first,
        // if it is not stuck.
        let loop_waker = self.thread.loop_waker();
        let in_loop = lease.filter(|lease| lease.runs_tasks_in(loop_waker.as_ref()));
        in_loop.inspect(|lease| lease.wake_loop());
        Some(in_loop.map_or(Duration::ZERO, |_| limits.grace / 2))
    }

    /// Like [`Self::patience`], for tasks in flight in a loop that a call runs: one of them keeps the
    /// loop after its cancel, or the loop had replied for it.
    fn patience_of_tasks(&self, lease: &Lease, limits: &Limits) -> Option<Duration> {
        let is_stuck = lease.runs_tasks_in(self.thread.loop_waker().as_ref())
            && lease.in_flight().has_cancel_timeouts();
        is_stuck.then_some(limits.grace / 2)
    }

    /// Returns `true` if the lease of a task has ended, or the pool of the thread is closed.
    fn is_closed(&self, lease: Option<&Lease>) -> bool {
        lease.is_some_and(Lease::is_ended) || self.pool().is_some_and(|pool| pool.is_closed())
    }
}

fn interval(is_abandoned: bool, limits: &Limits) -> Duration {
    if is_abandoned {
        ABANDONED_INTERVAL
    } else {
        limits.grace / INTERRUPTIONS
    }
}

/// Returns the jobs of a task, and those in flight in its lease, whose callers wait for
/// `interrupted`.
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

/// Wakes the event loop of a lease if a task in flight is to be cancelled or has outlasted its
/// cancel; returns when to look again. The loop also runs while a call waits in it.
fn wake_for_cancels(lease: &Lease, now: Instant) -> Option<Instant> {
    let in_flight = lease.in_flight();
    if in_flight.is_due() {
        lease.wake_loop();
    }
    in_flight.is_cancelling().then(|| now + CANCEL_GRACE)
}
