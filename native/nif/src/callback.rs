//! One call of an Erlang function by Python code, for those on both sides of it.
//!
//! The thread that has called waits here, detached. The process that runs the function answers, and
//! may submit jobs meanwhile, which run on the waiting thread, in the middle of the code that has
//! called. Scheduler threads, the interrupter and a destructor come here: nothing blocks, nothing
//! attaches.

use rustler::env::SavedTerm;
use rustler::{OwnedEnv, Resource, Term};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::census::{CALLBACKS, Counted};
use crate::error::Error;
use crate::job::Job;
use crate::queue::Fifo;
use crate::ticket::Pending;
use crate::waker::Waker;

/// So many jobs of the answering process may wait in it, as in a context.
const CAPACITY: usize = 256;

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Callback {
    /// What `py_callback` knows it by.
    pub(crate) id: u64,
    /// The job whose code has called; `None` on a thread that Python code has started.
    pub(crate) job: Option<Arc<Job>>,
    /// Of the jobs that run in the middle of it.
    pub(crate) pending: Arc<Pending>,
    /// Of the thread that waits.
    waker: Waker,
    state: Mutex<State>,
    /// The thread has been raised an exception, and has not looked yet.
    interrupted: AtomicBool,
    _counted: Counted,
}

pub(crate) fn next_id() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[derive(Default)]
struct State {
    jobs: Fifo<Arc<Job>>,
    outcome: Option<Outcome>,
    /// Nobody waits any more.
    is_over: bool,
}

/// How the function ended.
pub(crate) enum Outcome {
    /// `{ok, Value}`, `{Class, Reason, Stacktrace}` or `not_registered`.
    Said(OwnedEnv, SavedTerm),
    /// Its process is gone without an answer.
    Lost,
}

/// What there is for the thread that waits.
pub(crate) enum Mail {
    Job(Arc<Job>),
    Outcome(Outcome),
}

impl Callback {
    pub(crate) fn new(job: Option<Arc<Job>>, pending: Arc<Pending>, waker: Waker) -> Arc<Self> {
        Self::with(next_id(), job, pending, waker)
    }

    /// With a number that is known before.
    pub(crate) fn with(
        id: u64,
        job: Option<Arc<Job>>,
        pending: Arc<Pending>,
        waker: Waker,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            job,
            pending,
            waker,
            state: Mutex::default(),
            interrupted: AtomicBool::new(false),
            _counted: CALLBACKS.enter(),
        })
    }

    /// A job for the thread that waits.
    /// Returns its key in the queue.
    pub(crate) fn submit(&self, job: Arc<Job>) -> Result<u64, Error> {
        let mut state = self.state();
        let refusal = if state.is_over || state.outcome.is_some() {
            Error::ContextNotBound
        } else if state.jobs.len() >= CAPACITY {
            Error::Overloaded
        } else {
            let key = state.jobs.push(job);
            drop(state);
            self.waker.wake();
            return Ok(key);
        };
        drop(state);
        job.ticket.cancel();
        Err(refusal)
    }

    /// Takes out a job that was cancelled. The thread that waits finds that out, if it has taken the
    /// job before.
    pub(crate) fn withdraw(&self, key: u64) {
        let removed = self.state().jobs.remove(key);
        // After the lock: the job may hold the last handle on a context or a stream.
        if let Some(job) = removed {
            job.settle();
        }
    }

    /// The first outcome counts.
    pub(crate) fn answer(&self, outcome: Outcome) {
        let mut state = self.state();
        if state.is_over || state.outcome.is_some() {
            drop(state);
            return;
        }
        state.outcome = Some(outcome);
        drop(state);
        self.waker.wake();
    }

    /// What comes next, jobs first: they were submitted before the answer.
    pub(crate) fn take(&self) -> Option<Mail> {
        let mut state = self.state();
        if let Some(job) = state.jobs.pop() {
            return Some(Mail::Job(job));
        }
        state.outcome.take().map(Mail::Outcome)
    }

    /// A look at the outcome, which stays.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Outcome) -> T) -> Option<T> {
        // Locked meanwhile: `look` makes no Python object either, since a garbage collection may come
        // up in that, and with it anybody's finalizer.
        self.state().outcome.as_ref().map(look)
    }

    fn has_mail(&self) -> bool {
        let state = self.state();
        state.jobs.len() > 0 || state.outcome.is_some()
    }

    /// Wakes the thread, which finds an exception pending.
    pub(crate) fn interrupt(&self) {
        self.note_interrupt();
        self.waker.wake();
    }

    /// There may be an exception pending in the thread.
    pub(crate) fn note_interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    /// The thread has something to look at.
    pub(crate) fn is_woken(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst) || self.has_mail()
    }

    /// Whether there may be an exception pending, which the thread looks for now.
    pub(crate) fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::SeqCst)
    }

    /// Nobody waits from here on. Returns the jobs that came and did not run.
    pub(crate) fn end(&self) -> Fifo<Arc<Job>> {
        let mut state = self.state();
        state.is_over = true;
        std::mem::take(&mut state.jobs)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each assignment, whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    /// Copies the term.
    pub(crate) fn said(term: Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let saved = env.save(term);
        Self::Said(env, saved)
    }
}

/// What the process that answers holds. If it ends without an answer, so does the call.
pub(crate) struct Handle(pub(crate) Arc<Callback>);

#[rustler::resource_impl]
impl Resource for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.answer(Outcome::Lost);
    }
}
