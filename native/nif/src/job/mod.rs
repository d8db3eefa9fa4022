//! A job: one call, eval, exec or demand, from its submission to its reply.
//!
//! The states of a job are those of its [`Ticket`]. A scheduler thread accepts the job and copies
//! its terms once; a worker reads them, attached; the thread that sends the reply, the worker or
//! the watchdog, settles the job. Nothing here blocks, and only [`reply`] sends.

mod callback;
mod describe;
mod env_pool;
mod in_flight;
mod reply;
mod request;
mod ticket;

use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, NifResult, Term};
use std::any::Any;
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use py_engine::lock::lock;
use py_engine::python::code_cache::Mode;

use crate::atoms;
use crate::error::{Error, Why};
use crate::live_counts::CountGuard;
use crate::vm::VM;

pub(crate) use callback::{CallbackHandle, CallbackQueue, Outcome, Waiter};
use env_pool::PooledEnv;
pub(crate) use in_flight::{CANCEL_GRACE, InFlight};
pub(crate) use reply::ReplyBuffer;
pub(crate) use request::{Request, is_empty, is_handle};
pub(crate) use ticket::{Cancel, Pending, Ticket};

pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) caller: LocalPid,
    placement: Placement,
    reply_to: ReplyTo,
    /// The term `{Ref, Job, Callers}` in `env`, copied once; big binaries in it are shared with the
    /// caller. `Ref` is `undefined` for a demand.
    request: SavedTerm,
    /// The code of the job has written to standard output or error.
    has_printed: Arc<AtomicBool>,
    env: PooledEnv,
    _counted: CountGuard,
}

// SAFETY: after `accept` the environment is only read: the worker decodes the job in place while
// the watchdog may copy the reference out, and decoding moves no term.
unsafe impl Sync for Job {}

/// The placement of a job.
pub(crate) enum Placement {
    /// The job runs on any worker, or in a binding, whose lease lasts without the job.
    Anywhere,
    /// The job runs in a context, whose handle it keeps until the reply: a caller that waits may
    /// have no other reference to it.
    Context(Mutex<Option<KeptAlive>>),
    /// The job runs in the middle of this one, whose callback its caller answers; `None` if the
    /// callback was called by code that belongs to no job.
    Within(Option<Arc<Job>>),
}

/// A handle that a job keeps until it is settled.
pub(crate) type KeptAlive = Box<dyn Any + Send>;

/// The kind of the message that ends a job.
pub(crate) enum ReplyTo {
    /// A reply `{Ref, Result}` to the caller.
    Caller,
    /// The same reply to a server, which waits in place of the caller.
    Server(LocalPid),
    /// A message of a stream, which the demand builds.
    Demand(Arc<dyn Demand>),
}

/// The stream's part of a job that is a demand. Called by the thread that replies.
pub(crate) trait Demand: Any + Send + Sync {
    /// Builds the message, in `env`.
    fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a>;
    /// Ends the stream: the message is an error.
    fn fail(&self);
    /// Ends the demand: its message was sent, or never will be.
    fn settle(&self);
    /// Returns `true` if the lease was made for the stream, and the stream is over.
    fn frees_lease(&self) -> bool;
}

impl Job {
    /// Makes a job of the term `{Ref, Job, Callers}`, which is copied. Runs on a scheduler thread:
    /// must not attach, lock for long, or send.
    pub(crate) fn accept(
        env: Env<'_>,
        request: Term<'_>,
        ticket: Arc<Ticket>,
        placement: Placement,
        reply_to: ReplyTo,
    ) -> Arc<Self> {
        let job_env = PooledEnv::new();
        let request = job_env.save(request);
        Arc::new(Self {
            ticket,
            caller: env.pid(),
            placement,
            reply_to,
            request,
            has_printed: Arc::default(),
            env: job_env,
            _counted: VM.counts.jobs.enter(),
        })
    }

    /// Decodes and checks a job. Raises `badarg` in the caller for one that no worker could run.
    /// Called on a scheduler thread.
    pub(crate) fn check(job: Term<'_>) -> NifResult<Request<'_>> {
        let request = Request::decode(job)?;
        request.check()?;
        Ok(request)
    }

    /// Returns this job and those in the middle of which it runs, innermost first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |job| match &job.placement {
            Placement::Within(parent) => parent.as_deref(),
            Placement::Anywhere | Placement::Context(_) => None,
        })
    }

    /// Returns `true` if the code must stop: this job or an ancestor was cancelled or interrupted.
    pub(crate) fn must_stop(&self) -> bool {
        self.ancestors().any(|job| job.ticket.is_unwanted())
    }

    /// Returns the demand that this job is; `None` for another job.
    pub(crate) fn demand(&self) -> Option<&Arc<dyn Demand>> {
        match &self.reply_to {
            ReplyTo::Demand(demand) => Some(demand),
            ReplyTo::Caller | ReplyTo::Server(_) => None,
        }
    }

    /// Returns the process that gets the message which ends this job.
    pub(crate) fn receiver(&self) -> &LocalPid {
        match &self.reply_to {
            ReplyTo::Server(server) => server,
            ReplyTo::Caller | ReplyTo::Demand(_) => &self.caller,
        }
    }

    /// Counts the job as one that has written. Called before its reply is built.
    pub(crate) fn set_printed(&self) {
        self.has_printed.store(true, Ordering::Relaxed);
    }

    /// Returns the mark of `set_printed`, for the threads that the code starts: it does not hold the job.
    pub(crate) fn printed_mark(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_printed)
    }

    /// Builds the message that ends this job, in the environment of the reply. Called by the thread
    /// that replies.
    pub(crate) fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a> {
        if let Some(demand) = self.demand() {
            return demand.message(env, result);
        }
        let reference = self.env.run(|job_env| {
            let (reference, _, _) = self.request(job_env);
            reference.in_env(env)
        });
        if self.has_printed.load(Ordering::Relaxed) {
            // The caller waits until what the code has written stands where it belongs.
            return (reference, (atoms::printed(), result)).encode(env);
        }
        (reference, result).encode(env)
    }

    /// Builds the message that ends this job with an error, which `py` returns to the caller, or
    /// raises.
    pub(crate) fn failure<'a>(&self, env: Env<'a>, error: &Error) -> Term<'a> {
        let (tag, error) = match (&self.reply_to, &self.placement, error) {
            (ReplyTo::Demand(_), _, _) => (atoms::error(), error),
            // A binding that ends during a call is no mistake of the caller, which has named no
            // context.
            (_, Placement::Anywhere, Error::ContextNotBound) => {
                (atoms::error(), &Error::Interrupted)
            }
            _ if error.is_raised() => (atoms::raise(), error),
            _ => (atoms::error(), error),
        };
        self.message(env, (tag, error).encode(env))
    }

    /// Returns `true` for a job that runs statements.
    pub(crate) fn is_exec(&self) -> bool {
        self.env.run(|job_env| {
            let (_, job, _) = self.request(job_env);
            let job = match Request::decode(job) {
                Ok(Request::InForm { job, .. }) => Request::decode(job),
                job => job,
            };
            matches!(
                job,
                Ok(Request::Run {
                    mode: Mode::Exec | Mode::Block,
                    ..
                })
            )
        })
    }

    /// Drops the handle of the job's context, and settles its demand. Called when the message of
    /// the job was sent, or never will be: by the thread that sends, or on a scheduler thread for a
    /// job that was cancelled before it ran.
    pub(crate) fn settle(&self) {
        if let Placement::Context(context) = &self.placement {
            // Code that was left running refers to its job, which would keep the context alive.
            drop(lock(context).take());
        }
        if let Some(demand) = self.demand() {
            demand.settle();
        }
    }

    /// Returns `[Caller | Callers]`: the caller, and the processes of its own `$callers`.
    pub(crate) fn callers<'a>(&self, env: Env<'a>) -> Term<'a> {
        let callers = self.env.run(|job_env| {
            let (_, _, callers) = self.request(job_env);
            callers.in_env(env)
        });
        let callers = callers.is_list().then_some(callers);
        callers
            .unwrap_or_else(|| Term::list_new_empty(env))
            .list_prepend(self.caller.encode(env))
    }

    fn request<'a>(&self, job_env: Env<'a>) -> (Term<'a>, Term<'a>, Term<'a>) {
        let request = self.request.load(job_env);
        // `submit` and `Stream::ask` make such a tuple, so `decode` does not fail.
        request.decode().unwrap_or((request, request, request))
    }

    /// Calls `body` with the decoded request. Called on the thread that runs the job.
    pub(crate) fn with_request<T>(
        &self,
        body: impl FnOnce(Request<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.env.run(|job_env| {
            let (_, job, _) = self.request(job_env);
            // The request was checked before it was queued, so `decode` does not fail.
            let malformed = |_| Error::unconvertible(Why::NotUnicode, "job");
            body(Request::decode(job).map_err(malformed)?)
        })
    }
}
