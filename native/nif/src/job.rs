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
use crate::stream::{Demand, Stream};
use crate::ticket::Ticket;

mod shape;

pub(crate) use shape::{Shape, is_empty};

pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) caller: LocalPid,
    home: Home,
    /// `{Ref, Job, Callers}`, copied once; big binaries in it are shared with the caller.
    order: SavedTerm,
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
    /// For a stream: its message is not `{Ref, Result}` but `{py_stream, Stream, Result}`. In the
    /// middle of that job, if its consumer answers a callback. The demand, which the stream knows,
    /// must not refer to that one, which may refer to the stream.
    Demand(Arc<Demand>, Option<Arc<Job>>),
}

impl Job {
    /// Runs on a scheduler thread: must not attach, lock for long, or send.
    ///
    /// `order` is `{Ref, Job, Callers}`.
    pub(crate) fn accept(
        env: Env<'_>,
        order: Term<'_>,
        ticket: Arc<Ticket>,
        home: Home,
    ) -> Arc<Self> {
        let env_of_job = LentEnv::new();
        let order = env_of_job.save(order);
        Arc::new(Self {
            ticket,
            caller: env.pid(),
            home,
            order,
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
            Home::Within(parent) | Home::Demand(_, parent) => parent.as_deref(),
            Home::Anywhere | Home::Context(_) => None,
        })
    }

    /// Nobody waits for what the code is doing.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.chain().any(|job| job.ticket.is_unwanted())
    }

    /// The message that ends this job, in the environment of the reply.
    pub(crate) fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a> {
        let reference = self.env.run(|own| {
            let (reference, _, _) = self.order(own);
            reference.in_env(env)
        });
        match self.home {
            Home::Demand(..) => (atoms::py_stream(), reference, result).encode(env),
            _ => (reference, result).encode(env),
        }
    }

    /// As `message`, for what went wrong: returned to a caller, or raised in it.
    pub(crate) fn failure<'a>(&self, env: Env<'a>, error: &Error) -> Term<'a> {
        let (tag, error) = match (&self.home, error) {
            // A binding that ends under a call is no mistake of the caller, who names no context.
            (Home::Anywhere, Error::ContextNotBound) => (atoms::error(), &Error::Interrupted),
            (Home::Demand(..), _) => (atoms::error(), error),
            _ if error.is_raised() => (atoms::raise(), error),
            _ => (atoms::error(), error),
        };
        self.message(env, (tag, error).encode(env))
    }

    /// As `failure`, of a job that did not come to its end.
    pub(crate) fn refusal<'a>(&self, env: Env<'a>, error: &Error) -> Term<'a> {
        if self.stream().is_some_and(|stream| stream.refuse()) {
            self.message(env, atoms::done().encode(env))
        } else {
            self.failure(env, error)
        }
    }

    /// Its refusal is for later, and not for its own outbox.
    pub(crate) fn defer(&self) -> bool {
        let deferred = || Some(self.stream()?.demands.defer(self.demand()?));
        deferred().unwrap_or(false)
    }

    /// Runs statements.
    pub(crate) fn is_exec(&self) -> bool {
        self.env.run(|own| {
            let (_, job, _) = self.order(own);
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

    /// What it is a demand of.
    fn stream(&self) -> Option<ResourceArc<Stream>> {
        if !matches!(self.home, Home::Demand(..)) {
            return None;
        }
        self.env.run(|own| {
            let (stream, _, _) = self.order(own);
            stream.decode().ok()
        })
    }

    fn demand(&self) -> Option<&Demand> {
        match &self.home {
            Home::Demand(demand, _) => Some(demand),
            _ => None,
        }
    }

    /// Its message has been sent, or never will be. Gives somebody whose refusal had to wait for
    /// it, if there is any, and has to be called again then.
    pub(crate) fn settle(&self) -> Option<LocalPid> {
        if let Home::Context(context) = &self.home {
            // What the code has left running may know its job, and would keep its own context.
            let context = context
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            drop(context);
        }
        self.stream()?.demands.settle(self.demand()?)
    }

    /// As `settle`, of a job that was cancelled before it ran. `false` if a refusal waits for it,
    /// which only a worker may send: then nothing has happened.
    pub(crate) fn settle_withdrawn(&self) -> bool {
        match (self.stream(), self.demand()) {
            (Some(stream), Some(demand)) => stream.demands.settle_unless_awaited(demand),
            _ => self.settle().is_none(),
        }
    }

    /// The stream that it was for is over, and was all that its lease is for.
    pub(crate) fn frees_lease(&self) -> bool {
        self.demand().is_some_and(Demand::frees_lease)
    }

    /// The stream that it is for is over.
    pub(crate) fn finish(&self, stream: &Stream) {
        if let Some(demand) = self.demand() {
            demand.finish(stream);
        }
    }

    /// As `finish`, with an error for the one who has asked.
    pub(crate) fn fail(&self, stream: &Stream) {
        if let Some(demand) = self.demand() {
            demand.fail(stream);
        }
    }

    /// Its code had come to its end, but the caller is told that it was interrupted: what it brought
    /// is lost.
    pub(crate) fn cut_short(&self) {
        if let Some(stream) = self.stream() {
            self.finish(&stream);
            stream.lease.close_iterator(stream.id);
        }
    }

    /// `[Caller | Callers]`: the caller, and whoever it works for by its own word.
    pub(crate) fn callers<'a>(&self, env: Env<'a>) -> Term<'a> {
        let callers = self.env.run(|own| {
            let (_, _, callers) = self.order(own);
            callers.in_env(env)
        });
        let own = callers.is_list().then_some(callers);
        own.unwrap_or_else(|| Term::list_new_empty(env))
            .list_prepend(self.caller.encode(env))
    }

    fn order<'a>(&self, own: Env<'a>) -> (Term<'a>, Term<'a>, Term<'a>) {
        let order = self.order.load(own);
        // `submit` made this tuple.
        order.decode().unwrap_or((order, order, order))
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
            let (_, job, _) = self.order(own);
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
