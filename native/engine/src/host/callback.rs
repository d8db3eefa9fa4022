//! A callback: one call of an Erlang function by Python code.
//!
//! The thread that has called waits, detached. The process that runs the function answers once, and
//! may submit jobs before that, which run on the waiting thread, in the middle of the code that has
//! called. The states: waiting, with an answer that was not taken, over. Called on the waiting thread,
//! on scheduler threads, on the interrupter and in destructors: no function attaches, or blocks but
//! on the lock, which is held for a few instructions.

use pyo3::prelude::*;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::fifo::Fifo;
use super::{Function, Host, Wake};
use crate::lock::lock;

/// Most jobs that may be queued in a call, the same as in a context.
const CAPACITY: usize = 256;

/// A call, shared by the thread that waits and by the host.
pub struct Callback {
    /// Different from the id of every other call of the program; the host and the event loop find the
    /// call by it.
    pub id: u64,
    /// Wakes the thread that waits, or the event loop of a coroutine that does.
    waker: Arc<dyn Wake>,
    /// Locked for an operation on it; nothing is dropped or called under the lock but `look` of `peek`.
    state: Mutex<State>,
    /// Set if an exception may be pending in the waiting thread, which has not looked for it yet.
    interrupted: AtomicBool,
}

#[derive(Default)]
struct State {
    jobs: Fifo<Arc<dyn NestedJob>>,
    answer: Option<Box<dyn Answer>>,
    /// Set when the thread does not wait any more: jobs are refused, and an answer is dropped.
    is_over: bool,
}

/// A job that runs in the middle of a call.
pub trait NestedJob: Send + Sync {
    /// Runs the job on the calling thread, attached, and sends its reply.
    ///
    /// # Errors
    /// The code that waits must not go on.
    fn run(self: Arc<Self>, py: Python<'_>) -> Result<(), Ended>;
    /// Replies that the call has ended. Called on the thread that has waited.
    fn refuse(&self);
    /// Called by the host after `withdraw` has removed the cancelled job, on a scheduler thread.
    fn withdrawn(&self);
}

/// The cause for which code that waits must not go on after a nested job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The thread was abandoned during the job: another has replaced it.
    Abandoned,
    /// The job panicked.
    Crashed,
}

/// The end of the function: its value, or its failure.
pub trait Answer: Send {
    /// Returns the value for the code that has called. Called once, on the thread that has waited,
    /// attached.
    ///
    /// # Errors
    /// The exception for that code: the function failed, or its value has no form in Python.
    fn value<'py>(
        &self,
        py: Python<'py>,
        function: Function<'_>,
        host: &dyn Host,
    ) -> PyResult<Bound<'py, PyAny>>;

    /// Returns `self`, for the host to find its own type.
    fn as_any(&self) -> &dyn Any;
}

/// An event for the thread that waits.
pub enum Event {
    Job(Arc<dyn NestedJob>),
    Answer(Box<dyn Answer>),
}

/// The cause for which a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The call has an answer, or the thread does not wait any more.
    Ended,
    /// [`CAPACITY`] jobs are queued.
    Full,
}

impl Callback {
    /// Makes a call that waits. `id` comes from [`crate::erlang::next_id`].
    #[must_use]
    pub fn new(id: u64, waker: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self {
            id,
            waker,
            state: Mutex::default(),
            interrupted: AtomicBool::new(false),
        })
    }

    /// Queues a job for the thread that waits, and returns its key for `withdraw`. Called on a scheduler
    /// thread.
    ///
    /// # Errors
    /// The call is over, or its queue is full.
    pub fn submit(&self, job: Arc<dyn NestedJob>) -> Result<u64, Refused> {
        let mut state = lock(&self.state);
        if state.is_over || state.answer.is_some() {
            return Err(Refused::Ended);
        }
        if state.jobs.len() >= CAPACITY {
            return Err(Refused::Full);
        }
        let key = state.jobs.push(job);
        drop(state);
        self.waker.wake();
        Ok(key)
    }

    /// Removes a job that was cancelled from the queue, and returns it. `None` if the thread that waits
    /// has taken the job: then its code is interrupted. Called on a scheduler thread.
    pub fn withdraw(&self, key: u64) -> Option<Arc<dyn NestedJob>> {
        lock(&self.state).jobs.remove(key)
    }

    /// Sets the answer, and wakes the thread that waits. Drops every answer but the first, and an
    /// answer to a call that is over. Called on any thread.
    pub fn answer(&self, answer: Box<dyn Answer>) {
        let mut state = lock(&self.state);
        if state.is_over || state.answer.is_some() {
            // The caller's terms are dropped with `answer`, after the lock.
            drop(state);
            return;
        }
        state.answer = Some(answer);
        drop(state);
        self.waker.wake();
    }

    /// Takes the next event: all jobs first, since they were submitted before the answer. Called on
    /// the thread that waits.
    pub fn take(&self) -> Option<Event> {
        let mut state = lock(&self.state);
        if let Some(job) = state.jobs.pop() {
            return Some(Event::Job(job));
        }
        state.answer.take().map(Event::Answer)
    }

    /// Returns what `look` makes of the answer, if there is one. Called under the lock: `look` must
    /// make no Python object, since that may run a garbage collection, and so any finalizer.
    pub fn peek<T>(&self, look: impl FnOnce(&dyn Answer) -> T) -> Option<T> {
        lock(&self.state).answer.as_deref().map(look)
    }

    fn has_event(&self) -> bool {
        let state = lock(&self.state);
        !state.jobs.is_empty() || state.answer.is_some()
    }

    /// Wakes the thread that waits, in which an exception is pending. Called by the interrupter.
    pub(crate) fn interrupt(&self) {
        self.note_interrupt();
        self.waker.wake();
    }

    /// Makes the thread look for a pending exception before it waits.
    pub(crate) fn note_interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    /// Whether the thread has an event to take, or has to look for a pending exception. The condition
    /// of [`Host::park`].
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst) || self.has_event()
    }

    /// Returns and resets whether an exception may be pending; the calling thread looks for it next.
    pub(crate) fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::SeqCst)
    }

    /// Ends the wait: refuses the jobs that are queued, and all later ones. Called on the thread that
    /// has waited.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        let mut jobs = std::mem::take(&mut state.jobs);
        drop(state);
        while let Some(job) = jobs.pop() {
            job.refuse();
        }
    }
}
