//! One call of an Erlang function by Python code, for those on both sides of it.
//!
//! The thread that has called waits, detached. The process that runs the function answers, and may
//! submit jobs meanwhile, which run on the waiting thread, in the middle of the code that has
//! called. Scheduler threads, the interrupter and destructors come here: nothing blocks, nothing
//! attaches.

use pyo3::prelude::*;
use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::fifo::Fifo;
use super::{Function, Host, Wake};
use crate::lock::lock;

/// Jobs of the answering process that may wait in a call, as many as in a context.
const CAPACITY: usize = 256;

pub struct Callback {
    /// The number by which the host, and an event loop, know the call.
    pub id: u64,
    /// Wakes the thread that waits.
    waker: Arc<dyn Wake>,
    state: Mutex<State>,
    /// An exception was raised in the waiting thread, which has not looked for it yet.
    interrupted: AtomicBool,
}

#[derive(Default)]
struct State {
    jobs: Fifo<Arc<dyn NestedJob>>,
    answer: Option<Box<dyn Answer>>,
    /// The thread does not wait any more.
    is_over: bool,
}

/// A job that runs in the middle of a call.
pub trait NestedJob: Send + Sync {
    /// Runs the job on the calling thread, attached, and replies to it.
    ///
    /// # Errors
    /// The thread, or the code that waits, must end.
    fn run(self: Arc<Self>, py: Python<'_>) -> Result<(), Ended>;
    /// Replies that the call has ended. Called on the thread that has waited.
    fn refuse(&self);
    /// Notes that the job was cancelled and taken out. Called on a scheduler thread.
    fn withdrawn(&self);
}

/// Why code that waits for an answer must end after a nested job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The thread was abandoned during the job.
    Abandoned,
    /// The job panicked.
    Crashed,
}

/// How the function has ended.
pub trait Answer: Send {
    /// The value for the code that has called. Called once, attached.
    ///
    /// # Errors
    /// The exception for that code: the function failed, or its value has no form in Python.
    fn value<'py>(
        &self,
        py: Python<'py>,
        function: Function<'_>,
        host: &dyn Host,
    ) -> PyResult<Bound<'py, PyAny>>;

    fn as_any(&self) -> &dyn Any;
}

/// What there is for the thread that waits.
pub enum Event {
    Job(Arc<dyn NestedJob>),
    Answer(Box<dyn Answer>),
}

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The call has its answer, or does not wait any more.
    Ended,
    Full,
}

impl Callback {
    /// `id` is different from that of every other call of the program.
    #[must_use]
    pub fn new(id: u64, waker: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self {
            id,
            waker,
            state: Mutex::default(),
            interrupted: AtomicBool::new(false),
        })
    }

    /// Queues a job for the thread that waits, and returns its key.
    ///
    /// # Errors
    /// The call is over, or too many jobs wait in it.
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

    /// Takes out a job that was cancelled. `None` if the thread that waits has taken it, which finds
    /// out by itself.
    pub fn withdraw(&self, key: u64) -> Option<Arc<dyn NestedJob>> {
        lock(&self.state).jobs.remove(key)
    }

    /// The first answer counts.
    pub fn answer(&self, answer: Box<dyn Answer>) {
        let mut state = lock(&self.state);
        if state.is_over || state.answer.is_some() {
            // The terms of the answer are dropped after the lock.
            drop(state);
            return;
        }
        state.answer = Some(answer);
        drop(state);
        self.waker.wake();
    }

    /// Takes the next event, jobs first: they were submitted before the answer.
    pub fn take(&self) -> Option<Event> {
        let mut state = lock(&self.state);
        if let Some(job) = state.jobs.pop() {
            return Some(Event::Job(job));
        }
        state.answer.take().map(Event::Answer)
    }

    /// Calls `look` with the answer, if there is one, under the lock: `look` makes no Python object,
    /// since a garbage collection, and so any finalizer, may run in that.
    pub fn peek<T>(&self, look: impl FnOnce(&dyn Answer) -> T) -> Option<T> {
        lock(&self.state).answer.as_deref().map(look)
    }

    fn has_event(&self) -> bool {
        let state = lock(&self.state);
        !state.jobs.is_empty() || state.answer.is_some()
    }

    /// Wakes the thread that waits, in which an exception is pending.
    pub(crate) fn interrupt(&self) {
        self.note_interrupt();
        self.waker.wake();
    }

    /// Notes that an exception may be pending in the thread that is about to wait.
    pub(crate) fn note_interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    /// There is an event, or an exception to look for.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst) || self.has_event()
    }

    /// Whether an exception may be pending; the thread looks for it after this.
    pub(crate) fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::SeqCst)
    }

    /// Ends the wait: jobs that came and did not run are refused. Called on the thread that waited.
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
