//! A job: one call, eval, exec or demand, from its submission to its reply.
//!
//! `Job::accept` runs on a scheduler thread and copies the terms once.
//! `Job::execute` runs on a worker, attached.

use pyo3::prelude::*;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, NifResult, ResourceArc, Term};
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};

use crate::atoms;
use crate::census::{Counted, JOBS};
use crate::code::Mode;
use crate::context::Context;
use crate::convert::Answer;
use crate::error::{Error, Why};
use crate::execution::Execution;
use crate::lent::LentEnv;
use crate::namespace::Namespace;
use crate::stream::Stream;
use crate::ticket::Ticket;

mod shape;

pub(crate) use shape::{Shape, is_empty};

pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) caller: LocalPid,
    home: Home,
    reply_to: ReplyTo,
    /// `{Ref, Job, Callers}`, copied once; big binaries in it are shared with the caller. `Ref` is
    /// `undefined` for a demand.
    request: SavedTerm,
    env: LentEnv,
    _counted: Counted,
}

// SAFETY: after `accept` the terms are only read and copied out of the environment. The worker
// decodes the job there; the watchdog may copy the reference, which nothing that decodes moves.
unsafe impl Sync for Job {}

/// Where a job belongs.
pub(crate) enum Home {
    /// On any worker, or in a lease that lasts anyway.
    Anywhere,
    /// A caller that waits may have no other use for its handle: the context lasts as long as its
    /// jobs.
    Context(Mutex<Option<ResourceArc<Context>>>),
    /// In the middle of this job, if it is known: its caller is the process that answers a callback.
    Within(Option<Arc<Job>>),
}

/// Which message ends a job.
pub(crate) enum ReplyTo {
    /// `{Ref, Result}`.
    Caller,
    /// `{py_stream, Stream, Result}`: the job is a demand, and its caller the consumer. The stream
    /// refers to the ticket of the job only.
    Stream(ResourceArc<Stream>),
}

impl Job {
    /// Runs on a scheduler thread: must not attach, lock for long, or send.
    ///
    /// `request` is `{Ref, Job, Callers}`.
    pub(crate) fn accept(
        env: Env<'_>,
        request: Term<'_>,
        ticket: Arc<Ticket>,
        home: Home,
        reply_to: ReplyTo,
    ) -> Arc<Self> {
        let env_of_job = LentEnv::new();
        let request = env_of_job.save(request);
        Arc::new(Self {
            ticket,
            caller: env.pid(),
            home,
            reply_to,
            request,
            env: env_of_job,
            _counted: JOBS.enter(),
        })
    }

    /// Raises `badarg` in the caller for what no worker could make sense of.
    pub(crate) fn check(job: Term<'_>) -> NifResult<Shape<'_>> {
        let shape = Shape::decode(job)?;
        shape.check()?;
        Ok(shape)
    }

    /// This job, and those in the middle of which it runs, innermost first.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |job| match &job.home {
            Home::Within(parent) => parent.as_deref(),
            Home::Anywhere | Home::Context(_) => None,
        })
    }

    /// Nobody waits for what the code is doing.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.chain().any(|job| job.ticket.is_unwanted())
    }

    /// The stream that this job is a demand of.
    pub(crate) fn stream(&self) -> Option<&ResourceArc<Stream>> {
        match &self.reply_to {
            ReplyTo::Stream(stream) => Some(stream),
            ReplyTo::Caller => None,
        }
    }

    /// The message that ends this job, in the environment of the reply.
    pub(crate) fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a> {
        if let Some(stream) = self.stream() {
            return (atoms::py_stream(), stream, result).encode(env);
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
            (ReplyTo::Stream(_), _, _) => (atoms::error(), error),
            // A binding that ends under a call is no mistake of the caller, who names no context.
            (_, Home::Anywhere, Error::ContextNotBound) => (atoms::error(), &Error::Interrupted),
            _ if error.is_raised() => (atoms::raise(), error),
            _ => (atoms::error(), error),
        };
        self.message(env, (tag, error).encode(env))
    }

    /// Runs statements.
    pub(crate) fn is_exec(&self) -> bool {
        self.env.run(|own| {
            let (_, job, _) = self.request(own);
            let shape = Shape::decode(job);
            matches!(
                shape,
                Ok(Shape::Run {
                    mode: Mode::Exec,
                    ..
                })
            )
        })
    }

    /// Called when the message of the job has been sent, or never will be: by the thread that sends,
    /// or on a scheduler thread for a job that was cancelled before it ran.
    pub(crate) fn settle(&self) {
        if let Home::Context(context) = &self.home {
            // What the code has left running may know its job, and would keep its own context.
            let context = context
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            drop(context);
        }
        if let Some(stream) = self.stream() {
            stream.settle();
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

    /// `{ok, Value}` or `ok`, in `env`.
    pub(crate) fn execute<'a, 'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        namespace: &Namespace<'py>,
        env: Env<'a>,
    ) -> Result<Answer<'a>, Error> {
        let python = Execution {
            py,
            namespace,
            job: self,
            ticket: &self.ticket,
        };
        let done = self.env.run(|own| {
            let (_, job, _) = self.request(own);
            // Checked before it was queued.
            let malformed = |_| Error::unconvertible(Why::NotUnicode, "job");
            match Shape::decode(job).map_err(malformed)? {
                Shape::Empty => Ok(Answer::compact(atoms::ok().encode(env))),
                shape => namespace.run(|| python.execute(shape, env)),
            }
        });
        // Whatever the code made of an interruption, also of one that was for an outer job.
        done.map_err(|error| {
            if self.is_unwanted() {
                Error::Interrupted
            } else {
                error
            }
        })
    }
}
