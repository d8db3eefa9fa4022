//! Runs what a job says, in a namespace. Runs on workers, attached.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rustler::{Encoder, Env, Term};
use std::sync::Arc;

use crate::atoms;
use crate::code::{self, Mode};
use crate::convert::{Answer, to_arguments, to_kwargs, to_message, to_name, to_term};
use crate::coroutines;
use crate::error::{Error, Why};
use crate::flights;
use crate::iterators;
use crate::job::{Job, Shape, is_empty};
use crate::namespace::{Namespace, evaluate};
use crate::station::Station;
use crate::stream::Stream;
use crate::ticket::Ticket;

/// Where a job runs.
pub(crate) struct Execution<'py, 'ns> {
    pub(crate) py: Python<'py>,
    pub(crate) namespace: &'ns Namespace<'py>,
    pub(crate) job: &'ns Arc<Job>,
    pub(crate) ticket: &'ns Ticket,
}

impl<'py> Execution<'py, '_> {
    /// `{ok, Value}`, or `ok`, in `env`.
    pub(crate) fn execute<'a>(&self, shape: Shape<'_>, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let done = Ok(Answer::compact(atoms::ok().encode(env)));
        match shape {
            Shape::Run {
                mode: Mode::Exec,
                source,
                locals,
            } => self.run(Mode::Exec, source, locals, |_| done),
            Shape::Open { stream, source } => {
                self.with_value(source, |value| self.open(&stream, &value))?;
                done
            }
            Shape::Next { count } => self.next(count, env),
            Shape::Collect { source } => {
                let all = |value| {
                    let items = iterators::collect(&coroutines::settle(value)?, self.job)?;
                    self.answer(env, items.as_any())
                };
                self.with_value(source, all)
            }
            Shape::Async { source } => self.with_value(source, |value| self.fly(&value, env)),
            Shape::Empty => done,
            shape => self.value(shape, |value| self.answer(env, &coroutines::settle(value)?)),
        }
    }

    /// What a call or an expression gives, while its locals are there.
    fn value<T>(
        &self,
        shape: Shape<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match shape {
            Shape::Call {
                module,
                function,
                args,
                kwargs,
            } => finish(self.call(module, function, args, kwargs)?),
            Shape::Run {
                mode,
                source,
                locals,
            } => self.run(mode, source, locals, finish),
            // Checked before it was queued.
            _ => Err(Error::unconvertible(Why::NotUnicode, "job")),
        }
    }

    fn with_value<T>(
        &self,
        source: Term<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // Checked before it was queued.
        let malformed = |_| Error::unconvertible(Why::NotUnicode, "job");
        self.value(Shape::source(source).map_err(malformed)?, finish)
    }

    fn answer<'a>(&self, env: Env<'a>, value: &Bound<'py, PyAny>) -> Result<Answer<'a>, Error> {
        let answer = to_term(env, value, self.ticket)?;
        let tag = answer.tag();
        Ok(answer.map(|value| (tag, value).encode(env)))
    }

    /// A coroutine goes on without this job. A value is the answer, and so is that of a coroutine if
    /// there is no lease for it to live in, or nobody to run it there.
    fn fly<'a>(&self, value: &Bound<'py, PyAny>, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let lease = Station::here().errand();
        if let Some(lease) = lease.filter(|_| coroutines::is_coroutine(value)) {
            flights::begin(value, self.job, &lease)?;
            return Ok(Answer::deferred(env));
        }
        self.answer(env, &coroutines::settle(value.clone())?)
    }

    fn open(&self, stream: &Stream, value: &Bound<'py, PyAny>) -> Result<(), Error> {
        let value = coroutines::settle(value.clone())?;
        iterators::keep(stream.id, iterators::iterate(&value)?);
        if stream.is_closed() {
            // Whoever closed it may have come too early.
            iterators::close(self.py, stream.id);
        }
        Ok(())
    }

    /// `{items, Items}` or `done`.
    fn next<'a>(&self, count: usize, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let Some(stream) = self.job.stream() else {
            // Refused by `Job::check`.
            return Err(Error::unconvertible(Why::NotUnicode, "job"));
        };
        let batch = match iterators::next_batch(self.py, stream.id, count, self.job) {
            Ok(Some(items)) => to_message(env, items.as_any(), self.ticket),
            Ok(None) => {
                stream.finish();
                return Ok(Answer::compact(atoms::done().encode(env)));
            }
            Err(error) => Err(error.into()),
        };
        match batch {
            Ok(answer) => Ok(answer.map(|items| (atoms::items(), items).encode(env))),
            Err(error) => {
                // The iterator is not closed here: the interrupt that has hit it would hit its
                // `finally` as well.
                stream.fail();
                Err(error)
            }
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
        let args = to_arguments(py, args, self.ticket)?;
        if is_empty(kwargs) {
            return Ok(apply(&callable, args)?);
        }
        let kwargs = to_kwargs(py, kwargs, self.ticket)?;
        Ok(callable.call(PyTuple::new(py, args)?, Some(&kwargs))?)
    }

    /// `function` may be dotted: `path.join` of `os`.
    fn resolve(&self, module: Term<'_>, function: Term<'_>) -> Result<Bound<'py, PyAny>, Error> {
        let py = self.py;
        let module = to_name(py, module)?;
        let home = if module == "__main__" {
            self.namespace.module.clone().into_any()
        } else if let Some(imported) = find_module(&module)? {
            imported
        } else {
            py.import(module)?.into_any()
        };
        let function = to_name(py, function)?;
        let path = function.to_cow()?;
        if !path.contains('.') {
            return Ok(home.getattr(&function)?);
        }
        Ok(path
            .split('.')
            .try_fold(home, |object, name| object.getattr(name))?)
    }

    fn run<T>(
        &self,
        mode: Mode,
        source: &str,
        locals: Term<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let globals = &self.namespace.globals;
        if is_empty(locals) {
            let code = code::compile(self.py, mode, source)?;
            return finish(evaluate(&code, globals)?);
        }
        let locals: Bound<'py, PyDict> = to_kwargs(self.py, locals, self.ticket)?;
        if matches!(mode, Mode::Eval)
            && let Some(function) = code::closure(source, &locals, globals)?
        {
            let values: Vec<_> = locals.values().iter().collect();
            return finish(apply(&function, values)?);
        }
        let code = code::compile(self.py, mode, source)?;
        self.namespace
            .with_locals(&locals, || finish(evaluate(&code, globals)?))
    }
}

/// A module that has been imported; waits for one that another thread is importing.
fn find_module<'py>(name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: attached; a new reference, or null with or without an exception set.
    let module = unsafe { ffi::PyImport_GetModule(name.as_ptr()) };
    // SAFETY: as above.
    let module = unsafe { Bound::from_owned_ptr_or_opt(name.py(), module) };
    match PyErr::take(name.py()) {
        Some(error) => Err(error),
        // `None` there means that it must not be imported: the import says so.
        None => Ok(module.filter(|module| !module.is_none())),
    }
}

/// Calls with positional arguments only.
#[cfg(not(feature = "abi3"))]
fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a `Bound` is a pointer to a live object, and `args` holds as many.
    unsafe {
        let first = args.as_ptr().cast::<*mut ffi::PyObject>();
        let none = std::ptr::null_mut();
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), first, args.len(), none);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

#[cfg(feature = "abi3")]
fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    callable.call1(PyTuple::new(callable.py(), args)?)
}
