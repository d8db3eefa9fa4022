//! A watched thread: one that runs Python, with the tasks that it is in the middle of.
//!
//! The thread itself begins and ends tasks, attached. The watchdog inspects and abandons, and never
//! attaches; a scheduler thread looks for the job to interrupt. The lock is held for a few
//! instructions, never across Python code and never while attaching; under it are taken the lock of
//! the engine's [`Thread`], and those of a lease's tasks in flight and loop waker.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use py_engine::interrupt::{Attached, Thread};
use py_engine::lock::lock;

use super::escalation::Escalation;
use super::{registry, vm_exit};
use crate::gil::WorkerHandle;
use crate::job::Job;
use crate::pool::{Lease, Pool};
use crate::vm::notify_watchdog;

/// A piece of work that may get stuck in Python code, and that the watchdog can stop.
#[derive(Clone)]
pub(crate) enum Task {
    /// A job, and the lease that it runs in.
    Job(Arc<Job>, Option<Arc<Lease>>),
    /// The event loop of a lease, run for its tasks in flight.
    EventLoop(Arc<Lease>),
    /// The clean-up after a job or a lease, or of released objects: finalizers run, which may do
    /// anything.
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

/// The role of a watched thread.
pub(crate) enum Role {
    /// A worker of a pool.
    Worker {
        /// The number of the worker, which a successor inherits.
        id: u64,
        pool: Arc<Pool>,
        gil: Arc<WorkerHandle>,
    },
    /// The thread that drops released objects.
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
    /// The tasks that the thread is in the middle of, innermost last. Empty while the thread waits,
    /// or does something that cannot get stuck.
    pub(super) tasks: Vec<RunningTask>,
    /// The lease that a worker serves, also between two jobs.
    pub(super) serving: Option<Arc<Lease>>,
}

pub(super) struct RunningTask {
    pub(super) task: Task,
    pub(super) since: Instant,
    /// The stages of stopping the task; `None` while it may go on.
    pub(super) escalation: Option<Escalation>,
}

impl WatchedThread {
    /// Makes the record of the calling thread.
    pub(super) fn new(role: Role) -> Arc<Self> {
        Arc::new(Self {
            role,
            thread: Thread::enter(),
            state: Mutex::default(),
        })
    }

    /// Pushes a task, which makes the thread interruptible. Returns the number of tasks before the
    /// push, for `resume`. Called by the thread itself, attached. Does not return while the VM
    /// ends.
    pub(crate) fn begin(&self, task: Task) -> usize {
        let is_cleaning = matches!(task, Task::Cleaning(_));
        let mut state = self.state();
        let depth = state.tasks.len();
        if depth == 0 {
            self.thread.begin();
        }
        state.tasks.push(RunningTask {
            task,
            since: Instant::now(),
            escalation: None,
        });
        drop(state);
        if is_cleaning {
            registry::watch_cleaning();
        }
        // The task is shown first: the exit handler sets its flag first and looks at the tasks
        // then.
        vm_exit::stop_if_exiting();
        depth
    }

    /// Ends all tasks of a thread that Python does not know any more. Called by the thread itself,
    /// detached for good: another thread may get its Python identity soon, so no exception may be
    /// raised or withdrawn under it from now on.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        self.thread.leave();
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        drop(tasks);
    }

    /// Sets the lease that the worker serves, or `None` at its end. Called by the worker.
    pub(crate) fn serve(&self, lease: Option<&Arc<Lease>>) {
        let before = std::mem::replace(&mut self.state().serving, lease.cloned());
        drop(before);
    }

    /// Ends all tasks: the thread cannot be interrupted any more. `false` if it was abandoned: it
    /// must touch nothing of the pool, and end. Called by the thread itself, attached; idempotent.
    pub(crate) fn end(&self, py: Attached<'_>) -> bool {
        self.resume(py, 0)
    }

    /// Ends all tasks but the `depth` outer ones. `false` if the thread was abandoned, as with
    /// `end`.
    pub(crate) fn resume(&self, py: Attached<'_>, depth: usize) -> bool {
        let mut state = self.state();
        // An exception that was raised too late must not hit the next task.
        self.thread.end(py);
        for task in state.tasks.iter_mut().take(depth) {
            // The exception that was withdrawn may have been meant for this task.
            task.escalation.iter_mut().for_each(Escalation::repeat);
        }
        let kept = depth.min(state.tasks.len());
        let ended = state.tasks.split_off(kept);
        let abandoned = self.thread.is_abandoned();
        drop(state);
        // A task may hold the last reference to a job or a lease, which is dropped without the
        // lock.
        drop(ended);
        if depth > 0 {
            // The outer task may have to stop as well.
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

    /// Interrupts the job on this thread that `matches` accepts, or the tasks in flight that it
    /// accepts; `true` if a caller will get `interrupted`. Called on a scheduler thread.
    pub(crate) fn interrupt(&self, matches: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
        let state = self.state();
        let task = state.tasks.last().map(|running| &running.task);
        // Between two jobs the thread has no task, but its lease may have tasks in flight.
        let lease = task.and_then(Task::lease).or(state.serving.as_ref());
        let lease = lease.map(|lease| &**lease);
        if let Some(Task::Job(job, _)) = task {
            // The outermost job that matches: jobs in the middle of it stop as well.
            let found = job.ancestors().filter(|job| matches(job, lease)).last();
            if found.is_some_and(|job| job.ticket.interrupt()) {
                return true;
            }
        }
        lease.is_some_and(|lease| {
            let matches = |job: &Job| matches(job, Some(lease));
            lease.in_flight().interrupt(matches)
        })
    }

    /// Restarts the escalation of each task that has to stop: the outermost load of a module, which
    /// masks interrupts, is about to end. Called by the thread itself.
    pub(crate) fn restart_escalations(&self) {
        let now = Instant::now();
        let mut state = self.state();
        for escalation in state.tasks.iter_mut().filter_map(|t| t.escalation.as_mut()) {
            escalation.restart(now);
        }
    }

    /// Returns `true` if a task of the thread has to stop.
    pub(crate) fn must_stop(&self) -> bool {
        self.state().has_escalation()
    }

    /// Returns the pool of a worker; `None` for other threads.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.role {
            Role::Worker { pool, .. } => Some(pool),
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
