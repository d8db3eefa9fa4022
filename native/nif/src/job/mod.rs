//! A job: one call, eval, exec or demand, from its submission to its reply.
//!
//! A scheduler thread accepts the job and copies its terms once; a worker reads them, attached.

mod callback;
mod env_pool;
mod in_flight;
mod reply;
mod request;
mod ticket;

use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, NifResult, Term};
use std::any::Any;
use std::iter;
use std::sync::{Arc, Mutex};

use py_engine::lock::lock;
use py_engine::python::code_cache::Mode;

use crate::atoms;
use crate::error::{Error, Why};
use crate::live_counts::CountGuard;
use crate::vm::VM;

pub(crate) use callback::{CallbackHandle, CallbackQueue, Outcome};
use env_pool::PooledEnv;
pub(crate) use in_flight::{CANCEL_GRACE, InFlight};
pub(crate) use reply::ReplyBuffer;
pub(crate) use request::{Request, is_empty};
pub(crate) use ticket::{Cancel, Pending, Ticket};

pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) caller: LocalPid,
    home: Placement,
    reply_to: ReplyTo,
    /// `{Ref, Job, Callers}`, copied once; big binaries in it are shared with the caller. `Ref` is
    /// `undefined` for a demand.
    request: SavedTerm,
    env: PooledEnv,
    _counted: CountGuard,
}

// SAFETY: after `accept` the terms are only read and copied out of the environment. The worker
// decodes the job there; the watchdog may copy the reference, which nothing that decodes moves.
unsafe impl Sync for Job {}

/// Where a job belongs.
pub(crate) enum Placement {
    /// On any worker, or in a lease that lasts anyway.
    Anywhere,
    /// In a context, which lasts as long as its jobs: a caller that waits may have no other use for
    /// its handle. The handle goes with the reply.
    Context(Mutex<Option<KeptAlive>>),
    /// In the middle of this job, if it is known: its caller is the process that answers a callback.
    Within(Option<Arc<Job>>),
}

/// A handle that is dropped when the job is done.
pub(crate) type KeptAlive = Box<dyn Any + Send>;

/// Which message ends a job.
pub(crate) enum ReplyTo {
    /// `{Ref, Result}`.
    Caller,
    /// A message of the job's own making.
    Demand(Arc<dyn Demand>),
}

/// A job whose reply is not for the caller as such, but for the consumer of a stream.
pub(crate) trait Demand: Any + Send + Sync {
    /// The message, in `env`.
    fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a>;
    /// The reply will be an error.
    fn fail(&self);
    /// The message was sent, or never will be.
    fn settle(&self);
    /// The demand was all that its lease is for.
    fn frees_lease(&self) -> bool;
}

impl Job {
    /// Runs on a scheduler thread: must not attach, lock for long, or send.
    ///
    /// `request` is `{Ref, Job, Callers}`.
    pub(crate) fn accept(
        env: Env<'_>,
        request: Term<'_>,
        ticket: Arc<Ticket>,
        home: Placement,
        reply_to: ReplyTo,
    ) -> Arc<Self> {
        let env_of_job = PooledEnv::new();
        let request = env_of_job.save(request);
        Arc::new(Self {
            ticket,
            caller: env.pid(),
            home,
            reply_to,
            request,
            env: env_of_job,
            _counted: VM.counts.jobs.enter(),
        })
    }

    /// Raises `badarg` in the caller for what no worker could make sense of.
    pub(crate) fn check(job: Term<'_>) -> NifResult<Request<'_>> {
        let request = Request::decode(job)?;
        request.check()?;
        Ok(request)
    }

    /// This job, and those in the middle of which it runs, innermost first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |job| match &job.home {
            Placement::Within(parent) => parent.as_deref(),
            Placement::Anywhere | Placement::Context(_) => None,
        })
    }

    /// Nobody waits for what the code is doing.
    pub(crate) fn must_stop(&self) -> bool {
        self.ancestors().any(|job| job.ticket.is_unwanted())
    }

    /// The demand that this job is.
    pub(crate) fn demand(&self) -> Option<&Arc<dyn Demand>> {
        match &self.reply_to {
            ReplyTo::Demand(demand) => Some(demand),
            ReplyTo::Caller => None,
        }
    }

    /// The message that ends this job, in the environment of the reply.
    pub(crate) fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a> {
        if let Some(demand) = self.demand() {
            return demand.message(env, result);
        }
        let reference = self.env.run(|own| {
            let (reference, _, _) = self.request(own);
            reference.in_env(env)
        });
        (reference, result).encode(env)
    }

    /// As `message`, for what went wrong: returned to a caller, or raised in it.
    pub(crate) fn failure<'a>(&self, env: Env<'a>, error: &Error) -> Term<'a> {
        let (tag, error) = match (&self.reply_to, &self.home, error) {
            (ReplyTo::Demand(_), _, _) => (atoms::error(), error),
            // A binding that ends under a call is no mistake of the caller, who names no context.
            (_, Placement::Anywhere, Error::ContextNotBound) => {
                (atoms::error(), &Error::Interrupted)
            }
            _ if error.is_raised() => (atoms::raise(), error),
            _ => (atoms::error(), error),
        };
        self.message(env, (tag, error).encode(env))
    }

    /// Runs statements.
    pub(crate) fn is_exec(&self) -> bool {
        self.env.run(|own| {
            let (_, job, _) = self.request(own);
            matches!(
                Request::decode(job),
                Ok(Request::Run {
                    mode: Mode::Exec,
                    ..
                })
            )
        })
    }

    /// Called when the message of the job has been sent, or never will be: by the thread that sends,
    /// or on a scheduler thread for a job that was cancelled before it ran.
    pub(crate) fn settle(&self) {
        if let Placement::Context(context) = &self.home {
            // What the code has left running may know its job, and would keep its own context.
            drop(lock(context).take());
        }
        if let Some(demand) = self.demand() {
            demand.settle();
        }
    }

    /// `[Caller | Callers]`: the caller, and whoever it works for by its own word.
    pub(crate) fn callers<'a>(&self, env: Env<'a>) -> Term<'a> {
        let callers = self.env.run(|own| {
            let (_, _, callers) = self.request(own);
            callers.in_env(env)
        });
        let own = callers.is_list().then_some(callers);
        own.unwrap_or_else(|| Term::list_new_empty(env))
            .list_prepend(self.caller.encode(env))
    }

    fn request<'a>(&self, own: Env<'a>) -> (Term<'a>, Term<'a>, Term<'a>) {
        let request = self.request.load(own);
        // Made by `submit` or `Stream::ask`: always such a tuple.
        request.decode().unwrap_or((request, request, request))
    }

    /// Calls `body` with what the job asks for. Called on the thread that runs the job.
    pub(crate) fn with_request<T>(
        &self,
        body: impl FnOnce(Request<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.env.run(|own| {
            let (_, job, _) = self.request(own);
            // Checked before it was queued.
            let malformed = |_| Error::unconvertible(Why::NotUnicode, "job");
            body(Request::decode(job).map_err(malformed)?)
        })
    }
}
