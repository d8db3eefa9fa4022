//! What a thread that runs Python does at the moment, for those who may have to stop it.
//!
//! The thread itself says when it begins and ends a task, attached. The watchdog inspects and
//! abandons, and never attaches; the interrupter raises, attached; a scheduler thread looks for
//! the job to interrupt. The lock is held for a few instructions, never across Python code and
//! never while attaching.

mod alarm;
mod mask;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bell::Bell;
use crate::callback::Callback;
use crate::context::Lease;
use crate::interrupt::{self, Attached, Thread};
use crate::job::Job;
use crate::pool::Pool;
use crate::{exit, watchdog};

use alarm::Alarm;
pub(crate) use mask::InterruptMask;

#[derive(Clone)]
pub(crate) enum Task {
    /// A job, and the lease that it runs in.
    Job(Arc<Job>, Option<Arc<Lease>>),
    /// The asynchronous calls of a lease, in its event loop.
    Flights(Arc<Lease>),
    /// Undoes what somebody left behind. Finalizers run there, which may do anything.
    Cleaning(Option<Arc<Lease>>),
}

impl Task {
    pub(crate) fn lease(&self) -> Option<&Arc<Lease>> {
        match self {
            Self::Job(_, lease) | Self::Cleaning(lease) => lease.as_ref(),
            Self::Flights(lease) => Some(lease),
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

pub(crate) struct Slot {
    pub(crate) role: Role,
    thread: Thread,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each in the middle of the one before. None while the thread waits, or does what cannot get
    /// stuck.
    tasks: Vec<Watched>,
    /// The lease that a worker serves.
    serving: Option<Arc<Lease>>,
    /// What the code waits for, in the middle of its task.
    callback: Option<Arc<Callback>>,
    /// Of the event loop that runs here, if one does.
    bell: Option<Arc<Bell>>,
    /// The interrupter is to raise an exception in the thread.
    due: bool,
    /// It has, and the exception may be pending still.
    raised: bool,
    /// How many masks are active. While it is not 0, `raise` does nothing and `due` stays set.
    masks: usize,
    /// How many loads of modules the thread is in, each a mask as well.
    imports: usize,
    /// The thread has lost its place, and ends when its task does.
    abandoned: bool,
}

struct Watched {
    task: Task,
    /// The watchdog's notes on it.
    alarm: Option<Alarm>,
}

/// What the interrupter did about a slot.
#[derive(PartialEq, Eq)]
pub(crate) enum Raised {
    Nothing,
    /// An exception, in a thread that has its place still.
    InTime,
    Abandoned,
}

impl Slot {
    /// The slot of the calling thread.
    pub(crate) fn new(role: Role) -> Arc<Self> {
        Arc::new(Self {
            role,
            thread: Thread::current(),
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
            state.due = false;
            state.masks = 0;
            state.imports = 0;
        }
        state.tasks.push(Watched { task, alarm: None });
        drop(state);
        if is_cleaning {
            watchdog::watch();
        }
        // Shown first, then looked: whoever ends the VM looks for what is shown.
        exit::stop_if_exiting();
        depth
    }

    /// As `end`, for a thread that Python does not know any more. Its identity may be another's
    /// soon, so nothing may be raised here from now on, or taken back.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.due = false;
        if std::mem::take(&mut state.raised) {
            interrupt::forget_raised();
        }
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
        if std::mem::take(&mut state.raised) {
            // What was raised too late must not hit what comes next.
            self.thread.unraise(py);
        }
        state.due = false;
        for watched in state.tasks.iter_mut().take(depth) {
            // It may have been meant for this one.
            watched.alarm.iter_mut().for_each(Alarm::repeat);
        }
        let rest = depth.min(state.tasks.len());
        let ended = state.tasks.split_off(rest);
        let abandoned = state.abandoned;
        drop(state);
        // What a task refers to may be dropped here: not under the lock.
        drop(ended);
        if depth > 0 {
            // It may have to stop as well.
            watchdog::ring();
        }
        !abandoned
    }

    /// The code waits for this callback, or for none any more. Returns the one that it waited for
    /// before. Called by the thread itself.
    pub(crate) fn wait_for(&self, callback: Option<Arc<Callback>>) -> Option<Arc<Callback>> {
        let mut state = self.state();
        if state.raised
            && let Some(callback) = &callback
        {
            // It may be pending still.
            callback.note_interrupt();
        }
        std::mem::replace(&mut state.callback, callback)
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.state().tasks.is_empty()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Interrupts the job here if it is the one; `true` when its caller will hear of it.
    pub(crate) fn interrupt(&self, is_it: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
        let state = self.state();
        let task = state.tasks.last().map(|watched| &watched.task);
        // Between two errands there is no task, and calls are in flight.
        let lease = task.and_then(Task::lease).or(state.serving.as_ref());
        let lease = lease.map(|lease| &**lease);
        if let Some(Task::Job(job, _)) = task {
            // The outermost: what runs in the middle of it stops as well.
            let found = job.chain().filter(|job| is_it(job, lease)).last();
            if found.is_some_and(|job| job.ticket.interrupt()) {
                return true;
            }
        }
        lease.is_some_and(|lease| lease.board().interrupt(|job| is_it(job, Some(lease))))
    }

    /// Raises in the thread, if its task has not ended since the verdict. Attached.
    pub(crate) fn raise(&self, py: Attached<'_>) -> Raised {
        let mut state = self.state();
        if state.masks > 0 || !std::mem::take(&mut state.due) {
            return Raised::Nothing;
        }
        state.raised = true;
        self.thread.raise(py);
        let callback = state.callback.clone();
        let bell = state.bell.clone();
        let raised = if state.abandoned {
            Raised::Abandoned
        } else {
            Raised::InTime
        };
        drop(state);
        if let Some(callback) = callback {
            callback.interrupt();
        }
        if let Some(bell) = bell {
            // A loop that waits for its descriptors waits on after a signal (PEP 475).
            bell.ring();
        }
        raised
    }

    /// Called by the thread itself, in a task, attached.
    pub(crate) fn absorb(&self, py: Attached<'_>) {
        self.thread.absorb(py);
    }

    /// Takes back what was raised in an abandoned thread. Attached.
    pub(crate) fn unraise(&self, py: Attached<'_>) {
        if std::mem::take(&mut self.state().raised) {
            self.thread.unraise(py);
        }
    }

    /// This loop runs here, or none any more. Returns the one that ran before. Called by the thread
    /// itself.
    pub(crate) fn attend(&self, bell: Option<Arc<Bell>>) -> Option<Arc<Bell>> {
        std::mem::replace(&mut self.state().bell, bell)
    }

    /// Of a worker.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.role {
            Role::Worker(_, pool) => Some(pool),
            Role::Releaser | Role::Guest => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each assignment, whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
