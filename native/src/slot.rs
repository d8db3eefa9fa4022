//! What a thread that runs Python does at the moment, for those who may have to stop it.
//!
//! The thread itself says when it begins and ends a task, attached. The watchdog inspects and
//! abandons, and never attaches; the interrupter raises, attached; a scheduler thread looks for
//! the job to interrupt. The lock is held for a few instructions, never across Python code and
//! never while attaching.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::context::Lease;
use crate::interrupt::{self, Attached, Thread};
use crate::job::Job;
use crate::pool::Pool;
use crate::{exit, watchdog};

/// Code that swallows an interruption is interrupted again, so many times before its thread is
/// abandoned. In between it has time to clean up after itself.
const INTERRUPTIONS: u32 = 20;
/// And from then on at this interval: one of them may meet a loop outside its `try`.
const LAST_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) enum Task {
    /// A job, and the lease that it runs in.
    Job(Arc<Job>, Option<Arc<Lease>>),
    /// Undoes what somebody left behind. Finalizers run there, which may do anything.
    Cleaning(Option<Arc<Lease>>),
}

impl Task {
    pub(crate) fn lease(&self) -> Option<&Arc<Lease>> {
        match self {
            Self::Job(_, lease) | Self::Cleaning(lease) => lease.as_ref(),
        }
    }
}

pub(crate) struct Slot {
    /// Of the worker; its successor has the same.
    pub(crate) id: u64,
    /// `None` for the thread that releases objects.
    pub(crate) pool: Option<Arc<Pool>>,
    thread: Thread,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while the thread waits, or does what cannot get stuck.
    task: Option<Task>,
    /// The watchdog's notes on this task.
    alarm: Option<Alarm>,
    /// The interrupter is to raise an exception in the thread.
    due: bool,
    /// It has, and the exception may be pending still.
    raised: bool,
    /// Not now: it would hit another thread.
    held: bool,
    /// The thread has lost its place, and ends when its task does.
    abandoned: bool,
}

/// A task that somebody has to stop.
struct Alarm {
    since: Instant,
    next: Instant,
    /// How many exceptions were raised so far.
    raised: u32,
}

/// What the interrupter did about a slot.
#[derive(PartialEq, Eq)]
pub(crate) enum Raised {
    Nothing,
    /// An exception, in a thread that has its place still.
    InTime,
    Abandoned,
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
    /// The slot of the calling thread.
    pub(crate) fn new(id: u64, pool: Option<Arc<Pool>>) -> Arc<Self> {
        Arc::new(Self {
            id,
            pool,
            thread: Thread::current(),
            state: Mutex::default(),
        })
    }

    /// From here on the thread can be interrupted, and cleaning is watched. Attached.
    pub(crate) fn begin(&self, task: Task) {
        let is_cleaning = matches!(task, Task::Cleaning(_));
        let mut state = self.state();
        state.alarm = None;
        state.due = false;
        state.held = false;
        let old = state.task.replace(task);
        drop(state);
        // What a task refers to may be dropped here: not under the lock.
        drop(old);
        if is_cleaning {
            watchdog::watch();
        }
        // Shown first, then looked: whoever ends the VM looks for what is shown.
        exit::stop_if_exiting();
    }

    /// As `end`, for a thread that Python does not know any more. Its identity may be another's
    /// soon, so nothing may be raised here from now on, or taken back.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.due = false;
        if std::mem::take(&mut state.raised) {
            interrupt::forget_raised();
        }
        let task = state.task.take();
        drop(state);
        drop(task);
    }

    /// From here on it cannot. `false`: the thread has been abandoned; it owns nothing of the
    /// pool any more and must end. Idempotent.
    pub(crate) fn end(&self, py: Attached<'_>) -> bool {
        let mut state = self.state();
        if std::mem::take(&mut state.raised) {
            // What was raised too late must not hit what comes next.
            self.thread.unraise(py);
        }
        state.alarm = None;
        state.due = false;
        let task = state.task.take();
        let abandoned = state.abandoned;
        drop(state);
        drop(task);
        !abandoned
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.state().task.is_some()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Interrupts the job here if it is the one; `true` when its caller will hear of it.
    pub(crate) fn interrupt(&self, is_it: impl FnOnce(&Job, Option<&Lease>) -> bool) -> bool {
        match &self.state().task {
            Some(Task::Job(job, lease)) => is_it(job, lease.as_deref()) && job.ticket.interrupt(),
            _ => false,
        }
    }

    /// Runs on the watchdog.
    pub(crate) fn inspect(&self, now: Instant, grace: Duration) -> Verdict {
        let mut guard = self.state();
        let state = &mut *guard;
        let patience = match &state.task {
            Some(Task::Job(job, lease)) => {
                if self.is_closed(lease.as_deref()) {
                    job.ticket.interrupt();
                }
                // Whoever waited for an abandoned thread has had its reply.
                if !state.abandoned && !job.ticket.is_unwanted() {
                    return Verdict::default();
                }
                Duration::ZERO
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

    /// Raises in the thread, if its task has not ended since the verdict. Attached.
    pub(crate) fn raise(&self, py: Attached<'_>) -> Raised {
        let mut state = self.state();
        if state.held || !std::mem::take(&mut state.due) {
            return Raised::Nothing;
        }
        state.raised = true;
        self.thread.raise(py);
        if state.abandoned {
            Raised::Abandoned
        } else {
            Raised::InTime
        }
    }

    /// Puts exceptions off, or lets them come again: one that was put off comes at once. Called by
    /// the thread itself, attached.
    pub(crate) fn hold(&self, py: Attached<'_>, held: bool) {
        self.state().held = held;
        self.raise(py);
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

    /// Nobody waits for what runs here.
    fn is_closed(&self, lease: Option<&Lease>) -> bool {
        lease.is_some_and(Lease::is_ended) || self.pool.as_ref().is_some_and(|p| p.is_closed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each assignment, whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
