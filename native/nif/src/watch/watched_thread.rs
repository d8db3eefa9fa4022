//! A thread that runs Python, and what it runs at the moment.
//!
//! The thread itself begins and ends tasks, attached. The watchdog inspects and abandons, and never
//! attaches; a scheduler thread looks for the job to interrupt. The lock is held for a few
//! instructions, never across Python code and never while attaching; the lock of the engine's
//! [`Thread`] is taken under it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use py_engine::interrupt::{Attached, Thread};
use py_engine::lock::lock;

use super::escalation::Escalation;
use super::{registry, vm_exit};
use crate::job::Job;
use crate::pool::{Lease, Pool};
use crate::vm::notify_watchdog;

#[derive(Clone)]
pub(crate) enum Task {
    /// A job, and the lease that it runs in.
    Job(Arc<Job>, Option<Arc<Lease>>),
    /// The asynchronous calls of a lease, in its event loop.
    EventLoop(Arc<Lease>),
    /// Undoes what somebody left behind. Finalizers run there, which may do anything.
    Cleaning(Option<Arc<Lease>>),
}

impl Task {
    pub(crate) fn lease(&self) -> Option<&Arc<Lease>> {
        match self {
            Self::Job(_, lease) | Self::Cleaning(lease) => lease.as_ref(),
            Self::EventLoop(lease) => Some(lease),
        }
    }
}

/// Whose slot it is.
pub(crate) enum Role {
    /// Its id, which its successor has as well.
    Worker(u64, Arc<Pool>),
    /// The thread that releases objects.
    Releaser,
    /// A thread that Python code has started, and whose callback submits jobs.
    Guest,
}

pub(crate) struct WatchedThread {
    pub(crate) role: Role,
    pub(crate) thread: Arc<Thread>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Each in the middle of the one before. None while the thread waits, or does what cannot get
    /// stuck.
    pub(super) tasks: Vec<RunningTask>,
    /// The lease that a worker serves.
    serving: Option<Arc<Lease>>,
}

pub(super) struct RunningTask {
    pub(super) task: Task,
    /// Of a task that has to stop.
    pub(super) escalation: Option<Escalation>,
}

impl WatchedThread {
    /// The calling thread.
    pub(super) fn new(role: Role) -> Arc<Self> {
        Arc::new(Self {
            role,
            thread: Thread::enter(),
            state: Mutex::default(),
        })
    }

    /// From here on the thread can be interrupted, and cleaning is watched. Returns in the middle of
    /// how many others the task runs, for `resume`. Attached.
    pub(crate) fn begin(&self, task: Task) -> usize {
        let is_cleaning = matches!(task, Task::Cleaning(_));
        let mut state = self.state();
        let depth = state.tasks.len();
        if depth == 0 {
            self.thread.begin();
        }
        let escalation = None;
        state.tasks.push(RunningTask { task, escalation });
        drop(state);
        if is_cleaning {
            registry::watch_cleaning();
        }
        // Shown first, then looked: whoever ends the VM looks for what is shown.
        vm_exit::stop_if_exiting();
        depth
    }

    /// As `end`, for a thread that Python does not know any more. Its identity may be another's
    /// soon, so nothing may be raised here from now on, or taken back.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        self.thread.leave();
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        drop(tasks);
    }

    /// The worker serves this lease from here on, or none.
    pub(crate) fn serve(&self, lease: Option<&Arc<Lease>>) {
        let before = std::mem::replace(&mut self.state().serving, lease.cloned());
        drop(before);
    }

    /// From here on it cannot. `false`: the thread has been abandoned; it owns nothing of the
    /// pool any more and must end. Idempotent.
    pub(crate) fn end(&self, py: Attached<'_>) -> bool {
        self.resume(py, 0)
    }

    /// As `end`, but so many outer tasks go on.
    pub(crate) fn resume(&self, py: Attached<'_>, depth: usize) -> bool {
        let mut state = self.state();
        // What was raised too late must not hit what comes next.
        self.thread.end(py);
        for task in state.tasks.iter_mut().take(depth) {
            // The exception may have been meant for this one.
            task.escalation.iter_mut().for_each(Escalation::repeat);
        }
        let rest = depth.min(state.tasks.len());
        let ended = state.tasks.split_off(rest);
        let abandoned = self.thread.is_abandoned();
        drop(state);
        // What a task refers to may be dropped here: not under the lock.
        drop(ended);
        if depth > 0 {
            // It may have to stop as well.
            notify_watchdog();
        }
        !abandoned
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.state().tasks.is_empty()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.thread.is_abandoned()
    }

    /// Interrupts the job here if it is the one; `true` when its caller will hear of it.
    pub(crate) fn interrupt(&self, is_it: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
        let state = self.state();
        let task = state.tasks.last().map(|running| &running.task);
        // Between two errands there is no task, and calls are in flight.
        let lease = task.and_then(Task::lease).or(state.serving.as_ref());
        let lease = lease.map(|lease| &**lease);
        if let Some(Task::Job(job, _)) = task {
            // The outermost: what runs in the middle of it stops as well.
            let found = job.ancestors().filter(|job| is_it(job, lease)).last();
            if found.is_some_and(|job| job.ticket.interrupt()) {
                return true;
            }
        }
        lease.is_some_and(|lease| lease.in_flight().interrupt(|job| is_it(job, Some(lease))))
    }

    /// Restarts the clocks of tasks that have to stop: an import, under which nothing was raised, is
    /// about to end. Called by the thread itself.
    pub(crate) fn restart_escalations(&self) {
        let now = Instant::now();
        let mut state = self.state();
        for escalation in state.tasks.iter_mut().filter_map(|t| t.escalation.as_mut()) {
            escalation.restart(now);
        }
    }

    /// A task has to stop.
    pub(crate) fn must_stop(&self) -> bool {
        self.state().has_escalation()
    }

    /// Of a worker.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.role {
            Role::Worker(_, pool) => Some(pool),
            Role::Releaser | Role::Guest => None,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    pub(super) fn has_escalation(&self) -> bool {
        self.tasks.iter().any(|task| task.escalation.is_some())
    }
}
