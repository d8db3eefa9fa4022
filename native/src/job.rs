//! One call, eval or exec: the only place where the shapes of jobs exist.
//!
//! `Job::accept` runs on a scheduler thread: it checks the shape and copies the terms once.
//! `Job::execute` runs on a worker, attached.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustler::env::SavedTerm;
use rustler::types::tuple::get_tuple;
use rustler::{Atom, Binary, Encoder, Env, Error as NifError, LocalPid, MapIterator, NifResult};
use rustler::{OwnedEnv, ResourceArc, Term};
use std::sync::Arc;

use crate::atoms;
use crate::census::{Counted, JOBS};
use crate::code::{self, Mode};
use crate::context::Context;
use crate::convert::{Answer, to_arguments, to_kwargs, to_name, to_term};
use crate::error::{Error, Why};
use crate::namespace::{Namespace, evaluate};
use crate::ticket::Ticket;

pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) caller: LocalPid,
    /// A caller that waits may have no other use for its handle: the context lasts as long as
    /// its jobs.
    _context: Option<ResourceArc<Context>>,
    /// `{Ref, Job}`, copied once; big binaries in it are shared with the caller.
    order: SavedTerm,
    env: OwnedEnv,
    _counted: Counted,
}

// SAFETY: after `accept` the terms are only read and copied out of the environment. The worker
// decodes the job there; the watchdog may copy the reference, which nothing that decodes moves.
unsafe impl Sync for Job {}

/// The shapes that `py.erl` submits.
enum Shape<'a> {
    Call {
        module: Term<'a>,
        function: Term<'a>,
        args: Term<'a>,
        kwargs: Term<'a>,
    },
    Run {
        mode: Mode,
        source: &'a str,
        locals: Term<'a>,
    },
    /// Goes the whole way and does nothing: what `make bench` measures the others against.
    Empty,
}

impl<'a> Shape<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if atoms::empty() == term {
            return Ok(Self::Empty);
        }
        let elements = get_tuple(term)?;
        let is = |tag: Term<'a>, atom: Atom| atom == tag;
        match *elements {
            [tag, module, function, args, kwargs] if is(tag, atoms::call()) => Ok(Self::Call {
                module,
                function,
                args,
                kwargs,
            }),
            [tag, source, locals] if is(tag, atoms::eval()) => Ok(Self::Run {
                mode: Mode::Eval,
                source: text(source)?,
                locals,
            }),
            [tag, source, locals] if is(tag, atoms::exec()) => Ok(Self::Run {
                mode: Mode::Exec,
                source: text(source)?,
                locals,
            }),
            _ => Err(NifError::BadArg),
        }
    }

    /// What is wrong here is the caller's mistake, and raised there.
    fn check(&self) -> NifResult<()> {
        match self {
            Self::Call {
                module,
                function,
                args,
                kwargs,
            } => {
                check_name(*module)?;
                check_name(*function)?;
                check_names(*kwargs)?;
                if args.is_list() {
                    Ok(())
                } else {
                    Err(NifError::BadArg)
                }
            }
            Self::Run { locals, .. } => check_names(*locals),
            Self::Empty => Ok(()),
        }
    }
}

fn text(term: Term<'_>) -> NifResult<&str> {
    let binary = Binary::from_term(term)?;
    std::str::from_utf8(binary.as_slice()).map_err(|_| NifError::BadArg)
}

fn check_name(term: Term<'_>) -> NifResult<()> {
    if term.is_atom() {
        Ok(())
    } else {
        text(term).map(|_| ())
    }
}

fn check_names(map: Term<'_>) -> NifResult<()> {
    let mut entries = MapIterator::new(map).ok_or(NifError::BadArg)?;
    entries.try_for_each(|(key, _)| check_name(key))
}

fn is_empty(map: Term<'_>) -> bool {
    map.map_size().is_ok_and(|size| size == 0)
}

impl Job {
    /// Runs on a scheduler thread: must not attach, lock for long, or send.
    pub(crate) fn accept(
        env: Env<'_>,
        reference: Term<'_>,
        job: Term<'_>,
        ticket: Arc<Ticket>,
        context: Option<ResourceArc<Context>>,
    ) -> Arc<Self> {
        let order = (reference, job).encode(env);
        let env_of_job = OwnedEnv::new();
        let order = env_of_job.save(order);
        Arc::new(Self {
            ticket,
            caller: env.pid(),
            _context: context,
            order,
            env: env_of_job,
            _counted: JOBS.enter(),
        })
    }

    /// Raises `badarg` in the caller for what no worker could make sense of.
    pub(crate) fn check(job: Term<'_>) -> NifResult<()> {
        Shape::decode(job)?.check()
    }

    /// The message that ends this job, in the environment of the reply.
    pub(crate) fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a> {
        let reference = self.env.run(|own| {
            let (reference, _) = self.order(own);
            reference.in_env(env)
        });
        (reference, result).encode(env)
    }

    fn order<'a>(&self, own: Env<'a>) -> (Term<'a>, Term<'a>) {
        let order = self.order.load(own);
        // `accept` made this tuple.
        order.decode().unwrap_or((order, order))
    }

    /// `{ok, Value}` or `ok`, in `env`.
    pub(crate) fn execute<'a, 'py>(
        &self,
        py: Python<'py>,
        namespace: &Namespace<'py>,
        env: Env<'a>,
    ) -> Result<Answer<'a>, Error> {
        let ticket = &self.ticket;
        let python = Execution {
            py,
            namespace,
            ticket,
        };
        self.env.run(|own| {
            let (_, job) = self.order(own);
            // Checked before it was queued.
            let malformed = |_| Error::unconvertible(Why::NotUnicode, "job");
            match Shape::decode(job).map_err(malformed)? {
                Shape::Empty => Ok(Answer::compact(atoms::ok().encode(env))),
                shape => namespace.run(|| python.execute(shape, env)),
            }
        })
    }
}

/// Where a job runs.
struct Execution<'py, 'ns> {
    py: Python<'py>,
    namespace: &'ns Namespace<'py>,
    ticket: &'ns Ticket,
}

impl<'py> Execution<'py, '_> {
    fn execute<'a>(&self, shape: Shape<'_>, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let done = Ok(Answer::compact(atoms::ok().encode(env)));
        let ok = |value: Bound<'py, PyAny>| {
            let answer = to_term(env, &value, self.ticket)?;
            let tag = if answer.is_external {
                atoms::external()
            } else {
                atoms::ok()
            };
            Ok(answer.map(|value| (tag, value).encode(env)))
        };
        match shape {
            Shape::Call {
                module,
                function,
                args,
                kwargs,
            } => ok(self.call(module, function, args, kwargs)?),
            Shape::Run {
                mode: Mode::Eval,
                source,
                locals,
            } => self.run(Mode::Eval, source, locals, ok),
            Shape::Run {
                mode: Mode::Exec,
                source,
                locals,
            } => self.run(Mode::Exec, source, locals, |_| done),
            Shape::Empty => done,
        }
    }

    fn call(
        &self,
        module: Term<'_>,
        function: Term<'_>,
        args: Term<'_>,
        kwargs: Term<'_>,
    ) -> Result<Bound<'py, PyAny>, Error> {
        let py = self.py;
        let callable = self.resolve(module, function)?;
        let args = PyTuple::new(py, to_arguments(py, args, self.ticket)?)?;
        if is_empty(kwargs) {
            return Ok(callable.call1(args)?);
        }
        let kwargs = to_kwargs(py, kwargs, self.ticket)?;
        Ok(callable.call(args, Some(&kwargs))?)
    }

    /// `function` may be dotted: `path.join` of `os`.
    fn resolve(&self, module: Term<'_>, function: Term<'_>) -> Result<Bound<'py, PyAny>, Error> {
        let py = self.py;
        let module = to_name(py, module)?;
        let home = if module == "__main__" {
            self.namespace.module.clone()
        } else {
            py.import(module)?
        };
        let function = to_name(py, function)?;
        let path = function.to_cow()?;
        let start = home.into_any();
        Ok(path
            .split('.')
            .try_fold(start, |object, name| object.getattr(name))?)
    }

    fn run<T>(
        &self,
        mode: Mode,
        source: &str,
        locals: Term<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let code = code::compile(self.py, mode, source)?;
        let globals = &self.namespace.globals;
        if is_empty(locals) {
            return finish(evaluate(&code, globals)?);
        }
        let locals: Bound<'py, PyDict> = to_kwargs(self.py, locals, self.ticket)?;
        self.namespace
            .with_locals(&locals, || finish(evaluate(&code, globals)?))
    }
}
