//! A callback, a call of Erlang by Python code, as the BEAM sees it: the queue of jobs that run in
//! the middle of it, the handle that the answering process holds, and the answer.
//!
//! Called on scheduler threads and by destructors: nothing blocks, attaches or sends. The thread
//! that waits for the answer reads it and runs the nested jobs, attached.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use rustler::env::SavedTerm;
use rustler::types::tuple::get_tuple;
use rustler::{Encoder, OwnedEnv, Resource, Term};
use std::any::Any;
use std::sync::Arc;

use py_engine::erlang::{erlang_error, no_keywords, not_registered};
use py_engine::host::callback::{Answer, Callback, Ended, NestedJob, Refused};
use py_engine::host::{Function, Host};

use super::ticket::Pending;
use super::{Job, ReplyBuffer};
use crate::atoms;
use crate::convert::to_object;
use crate::error::Error;
use crate::live_counts::CountGuard;
use crate::term::{ErlangTerm, OfBeam};
use crate::vm::VM;

/// A function that runs a job in the middle of the code that waits on the calling thread.
pub(crate) type RunNested = fn(Python<'_>, &Arc<Job>) -> Result<(), Ended>;

/// The code that waits for the answer of a callback: on a thread of the VM, or in a child process.
/// Called on scheduler threads and by destructors: nothing blocks, attaches or sends a message.
pub(crate) trait Waiter: Send + Sync {
    /// Queues a job that runs in the middle of the code, and returns its key. `Err` if the code does not
    /// wait any more, or its queue is full.
    fn submit(&self, job: Arc<Job>) -> Result<u64, Refused>;
    /// Takes a cancelled job out of the queue, if it is there.
    fn withdraw(&self, key: u64);
    /// Passes the answer: `{ok, Value}`, `{Class, Reason, Stacktrace}`, `not_registered` or `no_keywords`. Only the first
    /// counts.
    fn answer(&self, answer: Term<'_>);
    /// Says that no answer will come, unless one has.
    fn lose(&self);
}

pub(crate) struct CallbackQueue {
    waiter: Box<dyn Waiter>,
    /// The job whose code has called; `None` if the code belongs to no job.
    pub(crate) job: Option<Arc<Job>>,
    /// The counter of the jobs that are submitted to the callback.
    pub(crate) pending: Arc<Pending>,
    _counted: CountGuard,
}

impl CallbackQueue {
    pub(crate) fn new(
        callback: &Arc<Callback>,
        job: Option<Arc<Job>>,
        pending: Arc<Pending>,
        run: RunNested,
    ) -> Arc<Self> {
        let callback = Arc::clone(callback);
        Self::over(Box::new(WaitingThread { callback, run }), job, pending)
    }

    /// Makes the queue of any code that waits.
    pub(crate) fn over(
        waiter: Box<dyn Waiter>,
        job: Option<Arc<Job>>,
        pending: Arc<Pending>,
    ) -> Arc<Self> {
        Arc::new(Self {
            waiter,
            job,
            pending,
            _counted: VM.counts.callbacks.enter(),
        })
    }

    /// Passes the answer on. Called on a scheduler thread.
    pub(crate) fn answer(&self, answer: Term<'_>) {
        self.waiter.answer(answer);
    }

    /// Queues a job for the thread that waits, wakes it, and returns the key of the job. Called on
    /// a scheduler thread.
    pub(crate) fn submit(&self, job: Arc<Job>) -> Result<u64, Error> {
        let ticket = Arc::clone(&job.ticket);
        self.waiter.submit(job).map_err(|refused| {
            ticket.refuse();
            match refused {
                Refused::Ended => Error::ContextNotBound,
                Refused::Full => Error::Overloaded,
            }
        })
    }

    /// Takes out a job that was cancelled. If the thread that waits has taken the job before, it
    /// finds the cancel in the ticket.
    pub(crate) fn withdraw(&self, key: u64) {
        self.waiter.withdraw(key);
    }
}

/// A thread of the VM that waits, and the function that runs a job on it.
struct WaitingThread {
    callback: Arc<Callback>,
    run: RunNested,
}

impl Waiter for WaitingThread {
    fn submit(&self, job: Arc<Job>) -> Result<u64, Refused> {
        let run = self.run;
        self.callback.submit(Arc::new(Nested { job, run }))
    }

    fn withdraw(&self, key: u64) {
        // The job may hold the last handle of a context, which is dropped without the callback's
        // lock.
        if let Some(job) = self.callback.withdraw(key) {
            job.withdrawn();
        }
    }

    fn answer(&self, answer: Term<'_>) {
        self.callback.answer(Box::new(Outcome::answered(answer)));
    }

    fn lose(&self) {
        self.callback.answer(Box::new(Outcome::Lost));
    }
}

/// A job that is queued for a thread that waits.
struct Nested {
    job: Arc<Job>,
    run: RunNested,
}

impl NestedJob for Nested {
    fn run(self: Arc<Self>, py: Python<'_>) -> Result<(), Ended> {
        (self.run)(py, &self.job)
    }

    fn refuse(&self) {
        ReplyBuffer::new().refuse(&self.job, Error::ContextNotBound);
    }

    fn withdrawn(&self) {
        self.job.settle();
    }
}

/// The outcome of a callback.
pub(crate) enum Outcome {
    /// The answer: `{ok, Value}`, `{Class, Reason, Stacktrace}`, `not_registered` or `no_keywords`.
    Answered(OwnedEnv, SavedTerm),
    /// The process of the callback has ended without an answer.
    Lost,
}

impl Outcome {
    /// Makes the outcome of an answer, which is copied. Called on a scheduler thread.
    pub(crate) fn answered(term: Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let saved = env.save(term);
        Self::Answered(env, saved)
    }
}

impl Answer for Outcome {
    fn value<'py>(
        &self,
        py: Python<'py>,
        function: Function<'_>,
        host: &dyn Host,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Answered(env, term) => env.run(|env| value(py, term.load(env), function, host)),
            Self::Lost => Err(killed(py)?),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn value<'py>(
    py: Python<'py>,
    term: Term<'_>,
    function: Function<'_>,
    host: &dyn Host,
) -> PyResult<Bound<'py, PyAny>> {
    if atoms::not_registered() == term
        && let Some(name) = function.name()
    {
        let text = format!("no Erlang function is registered as '{name}'");
        return Err(not_registered(py, &text));
    }
    if atoms::no_keywords() == term {
        return Err(no_keywords(function));
    }
    let elements = get_tuple(term).unwrap_or_default();
    match *elements {
        [_ok, value] => to_object(py, value, host).map_err(Error::into_exception),
        [class, reason, stack] => {
            // A term without a Python form becomes an `erlang.Term`.
            let form = |term| match to_object(py, term, host) {
                Ok(object) => Ok(object),
                Err(_) => ErlangTerm::wrap(py, term),
            };
            let whole = ErlangTerm::wrap(py, term)?;
            let args = (form(class)?, form(reason)?, form(stack)?, whole);
            Err(erlang_error(py, args))
        }
        _ => Err(PyRuntimeError::new_err("py_callback gave no answer")),
    }
}

/// Makes the exception for a callback whose process was killed.
fn killed(py: Python<'_>) -> PyResult<PyErr> {
    let whole = ErlangTerm::make(|env| {
        let stack = Term::list_new_empty(env);
        Some((atoms::exit(), atoms::killed(), stack).encode(env))
    });
    let whole = whole.map(|term| Bound::new(py, term)).transpose()?;
    let args = ("exit", "killed", PyList::empty(py), whole);
    Ok(erlang_error(py, args))
}

/// The handle that the process of a callback holds. Its drop ends the callback, if no answer came.
pub(crate) struct CallbackHandle(pub(crate) Arc<CallbackQueue>);

#[rustler::resource_impl]
impl Resource for CallbackHandle {}

impl Drop for CallbackHandle {
    fn drop(&mut self) {
        self.0.waiter.lose();
    }
}
