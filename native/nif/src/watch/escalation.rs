//! The escalation of a task that has to stop: its coroutine is cancelled, exceptions are raised in
//! its thread, with signals, and at the end the thread is abandoned.
//!
//! Called by the watchdog in each round, under the lock of the watched thread; never attaches or
//! sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use py_engine::loop_waker::LoopWaker;

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
    /// How long the code may go on without an exception: it changes with what the thread runs.
    patience: Duration,
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
            patience,
            next_raise: now + patience,
            raised: 0,
        }
    }

    /// Notes how long the code may go on without an exception by now. A loop that has begun meanwhile has
    /// its time to cancel the call; without one any more, an exception is due.
    fn set_patience(&mut self, now: Instant, patience: Duration) {
        if patience != self.patience {
            self.next_raise = now + patience;
        }
        self.patience = patience;
    }

    /// Makes the next exception due again: the last one was withdrawn with an inner task.
    pub(super) fn repeat(&mut self) {
        self.next_raise = self.since + self.patience;
    }

    /// Starts the escalation again: an import that has masked exceptions is about to end.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.next_raise = now + self.patience;
    }

    /// Gives the code more time: the watchdog was kept from running, and so perhaps the code as well.
    fn postpone(&mut self, time: Duration) {
        self.found_at += time;
        self.since += time;
    }

    /// Returns when the thread is abandoned. Code that goes on importing gains no time beyond one
    /// `import_grace`.
    fn deadline(&self, is_importing: bool, limits: &Limits) -> Instant {
        let last = self.found_at + limits.import_grace;
        if is_importing {
            return last;
        }
        let patience = self.patience;
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

/// One look of the watchdog at a thread.
struct Look<'a> {
    now: Instant,
    limits: &'a Limits,
    /// The waker of the event loop that runs in the thread.
    loop_waker: Option<Arc<LoopWaker>>,
}

impl WatchedThread {
    /// Looks at the tasks of the thread, requests exceptions, and abandons the thread if a deadline
    /// is over. Called by the watchdog, which comes `late`; takes the lock of the thread.
    pub(crate) fn inspect(&self, now: Instant, late: Duration, limits: &Limits) -> NextStep {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut next_step = NextStep::default();
        let mut is_overdue = false;
        let is_importing = self.thread.is_importing();
        let is_abandoned = self.thread.is_abandoned();
        let mut is_nested = false;
        let look = Look {
            now,
            limits,
            loop_waker: self.thread.loop_waker(),
        };
        // Outermost first: a nested task must not postpone the deadline of the task around it.
        for index in 0..state.tasks.len() {
            let patience = self.patience(state, index, is_nested, &look, &mut next_step);
            let running = &mut state.tasks[index];
            is_nested = matches!(running.task, Task::Job(..));
            let Some(patience) = patience else {
                running.escalation = None;
                continue;
            };
            if is_importing {
                next_step.answer.extend(interrupted_jobs(&running.task));
            }
            if let Some(escalation) = &mut running.escalation {
                escalation.postpone(late);
            }
            let escalation = running
                .escalation
                .get_or_insert_with(|| Escalation::new(now, patience));
            escalation.set_patience(now, patience);
            let deadline = escalation.deadline(is_importing, limits);
            is_overdue |= deadline <= now;
            let is_over = is_abandoned || deadline <= now;
            next_step.look_again((!is_over).then_some(deadline));
        }
        self.raise(state, &look, is_importing, &mut next_step);
        if is_overdue && !is_abandoned {
            self.thread.abandon();
            registry::count_abandoned();
            let tasks = state.tasks.iter().map(|running| running.task.clone());
            next_step.abandoned = Some(tasks.collect());
        }
        next_step
    }

    /// Requests an exception if one is due for a task, and breaks a system call if the one before is
    /// still pending.
    fn raise(
        &self,
        state: &mut State,
        look: &Look<'_>,
        is_importing: bool,
        next_step: &mut NextStep,
    ) {
        let now = look.now;
        let escalations = || {
            state
                .tasks
                .iter()
                .filter_map(|task| task.escalation.as_ref())
        };
        let is_due = escalations().any(|escalation| escalation.next_raise <= now);
        let is_requested = is_due && self.thread.request(look.loop_waker.as_ref());
        if is_importing {
            // The import masks the exception, which is raised at the end of it.
            return;
        }
        if is_due && !is_requested {
            // A loop has begun or ended since the look at it.
            next_step.look_again([now + Duration::from_millis(1)]);
            return;
        }
        next_step.raise = is_requested;
        let next_raise = now + interval(self.thread.is_abandoned(), look.limits);
        for escalation in state
            .tasks
            .iter_mut()
            .filter_map(|task| task.escalation.as_mut())
        {
            if escalation.next_raise <= now {
                if escalation.raised > 0 {
                    self.thread.signal();
                }
                escalation.raised += 1;
                escalation.next_raise = next_raise;
            }
            next_step.look_again([escalation.next_raise]);
        }
    }

    /// Returns how long a task that has to stop may go on before an exception is raised in it;
    /// `None` for a task that may go on. Wakes the event loop of a lease that has tasks to cancel.
    fn patience(
        &self,
        state: &State,
        index: usize,
        is_nested: bool,
        look: &Look<'_>,
        next_step: &mut NextStep,
    ) -> Option<Duration> {
        let (now, limits) = (look.now, look.limits);
        let is_abandoned = self.thread.is_abandoned();
        match &state.tasks[index].task {
            Task::Job(job, lease) => {
                if let Some(lease) = lease {
                    next_step.look_again(wake_for_cancels(lease, now));
                }
                self.patience_of_job(job, lease.as_deref(), is_nested, look)
                    .or_else(|| patience_of_tasks(lease.as_deref()?, look))
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
        look: &Look<'_>,
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
        let in_loop = lease.filter(|lease| lease.runs_tasks_in(look.loop_waker.as_ref()));
        in_loop.inspect(|lease| lease.wake_loop());
        Some(in_loop.map_or(Duration::ZERO, |_| look.limits.grace / 2))
    }

    /// Returns `true` if the lease of a task has ended, or the pool of the thread is closed.
    fn is_closed(&self, lease: Option<&Lease>) -> bool {
        lease.is_some_and(Lease::is_ended) || self.pool().is_some_and(|pool| pool.is_closed())
    }
}

/// Like [`WatchedThread::patience`], for tasks in flight in a loop that a call runs: one of them keeps
/// the loop after its cancel, or the loop had replied for it.
fn patience_of_tasks(lease: &Lease, look: &Look<'_>) -> Option<Duration> {
    let is_stuck =
        lease.runs_tasks_in(look.loop_waker.as_ref()) && lease.in_flight().has_cancel_timeouts();
    is_stuck.then_some(look.limits.grace / 2)
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
