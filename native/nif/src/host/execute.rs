//! Reads the request of a job, runs it, and writes the answer. Called by `run_job` on the thread
//! that serves the job, attached, within its call; blocks as the code of the job does.

use py_codec::Form;
use pyo3::prelude::*;
use rustler::{Encoder, Env, ResourceArc, Term};
use std::any::Any;
use std::sync::Arc;

use py_engine::asyncio::{self, settle};
use py_engine::call_stack;
use py_engine::execute::{self as engine, attribute, resolve};
use py_engine::host::Host;
use py_engine::interrupt::InterruptMask;
use py_engine::namespace::Namespace;
use py_engine::python::code_cache::Mode;

use super::job_host::JobHost;
use crate::atoms;
use crate::convert::{Answer, to_arguments, to_kwargs, to_message, to_name, to_object, to_term};
use crate::error::{Error, Why};
use crate::job::{Request, is_empty};
use crate::stream::{Stream, StreamDemand};

/// Runs the job of `host`. Returns `{ok, Value}` or `ok` in `env`, or a deferred answer.
pub(super) fn execute<'a, 'py>(
    py: Python<'py>,
    host: &Arc<JobHost>,
    namespace: &Namespace<'py>,
    env: Env<'a>,
) -> Result<Answer<'a>, Error> {
    let Some(job) = host.job() else {
        return Err(malformed());
    };
    let mut execution = Execution {
        py,
        namespace,
        host,
        form: Form::default(),
    };
    let done = job.with_request(|request| match request {
        Request::Empty => Ok(Answer::compact(atoms::ok().encode(env))),
        Request::InForm { form, job } => {
            execution.form = form;
            let job = Request::decode(job).map_err(|_| malformed())?;
            namespace.run(|| execution.execute(job, env))
        }
        request => namespace.run(|| execution.execute(request, env)),
    });
    // Code may turn an interrupt, also one for an outer job, into another exception.
    done.map_err(|error| {
        if job.must_stop() {
            Error::Interrupted
        } else {
            error
        }
    })
}

/// Returns the error for a request that cannot be decoded. Unreachable: requests are checked before
/// they are queued.
fn malformed() -> Error {
    Error::unconvertible(Why::NotUnicode, "job")
}

/// The surroundings of a job that runs.
struct Execution<'py, 'ns> {
    py: Python<'py>,
    namespace: &'ns Namespace<'py>,
    host: &'ns Arc<JobHost>,
    /// The form that the call wants for its value.
    form: Form,
}

impl<'py> Execution<'py, '_> {
    fn execute<'a>(&self, request: Request<'_>, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let done = Ok(Answer::compact(atoms::ok().encode(env)));
        match request {
            Request::Run {
                mode: Mode::Exec, ..
            } => self.value(request, |_| done),
            Request::Open { stream, source } => {
                let stream = stream.decode().map_err(|_| malformed())?;
                self.with_value(source, |value| self.open(&stream, value))?;
                done
            }
            Request::Next { count } => self.next(count, env),
            Request::Collect { source } => {
                let all = |value| {
                    let items = asyncio::collect(&settle(value)?, &**self.host)?;
                    self.answer(env, items.as_any())
                };
                self.with_value(source, all)
            }
            Request::Async { source } => self.with_value(source, |value| self.begin(value, env)),
            Request::Empty => done,
            request => self.value(request, |value| self.answer(env, &settle(value)?)),
        }
    }

    /// Calls `finish` with the value of a call or an expression, while its locals are alive.
    fn value<T>(
        &self,
        request: Request<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (py, host) = (self.py, &**self.host);
        let request = match request {
            Request::Call {
                module,
                function,
                args,
                kwargs,
            } => engine::Request::Call {
                callable: self.callable(module, function)?,
                args: to_arguments(py, args, host)?,
                kwargs: self.names(kwargs)?,
            },
            Request::Run {
                mode,
                source,
                locals,
            } => engine::Request::Run {
                mode,
                source,
                locals: self.names(locals)?,
            },
            Request::Object { handle } => return finish(to_object(py, handle, host)?),
            _ => return Err(malformed()),
        };
        engine::execute(self.namespace, request, finish)
    }

    /// Returns a function of a module, or of the object of a handle.
    fn callable(&self, module: Term<'_>, function: Term<'_>) -> Result<Bound<'py, PyAny>, Error> {
        let function = to_name(self.py, function)?;
        if module.is_ref() {
            let object = to_object(self.py, module, &**self.host)?;
            return Ok(attribute(object, &function)?);
        }
        Ok(resolve(
            self.namespace,
            &to_name(self.py, module)?,
            &function,
        )?)
    }

    /// Returns the dict of a map with names as keys; `None` if it is empty.
    fn names(&self, map: Term<'_>) -> Result<Option<Bound<'py, pyo3::types::PyDict>>, Error> {
        if is_empty(map) {
            return Ok(None);
        }
        to_kwargs(self.py, map, &**self.host).map(Some)
    }

    fn with_value<T>(
        &self,
        source: Term<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.value(Request::source(source).map_err(|_| malformed())?, finish)
    }

    fn answer<'a>(&self, env: Env<'a>, value: &Bound<'py, PyAny>) -> Result<Answer<'a>, Error> {
        let answer = to_term(env, value, &**self.host, self.form)?;
        let tag = answer.tag();
        Ok(answer.map(|value| (tag, value).encode(env)))
    }

    /// Starts a coroutine as a task, which replies at its end; the answer is deferred. Another
    /// value is answered at once, and so is the value of a coroutine that has no lease to live in,
    /// or whose job is nested, since no worker would run the task meanwhile.
    fn begin<'a>(&self, value: Bound<'py, PyAny>, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let (Some(job), Some(lease)) = (self.host.job(), self.host.lease()) else {
            return self.answer(env, &settle(value)?);
        };
        if !asyncio::is_coroutine(&value) || !call_stack::is_outermost() {
            return self.answer(env, &settle(value)?);
        }
        let host: Arc<dyn Host> = Arc::clone(self.host) as Arc<dyn Host>;
        let _mask = InterruptMask::new(self.py);
        // The job is put in flight first, since the task may be done before `begin` returns.
        lease.begin_task(job, &host);
        match asyncio::begin(&value, &host) {
            Ok(waker) => {
                lease.set_loop_waker(&waker);
                Ok(Answer::deferred(env))
            }
            Err(error) => {
                if lease.in_flight().remove(job) {
                    lease.finish_job();
                }
                Err(error.into())
            }
        }
    }

    fn open(&self, stream: &ResourceArc<Stream>, value: Bound<'py, PyAny>) -> Result<(), Error> {
        asyncio::keep(
            self.namespace,
            stream.id,
            asyncio::iterate(&settle(value)?)?,
        );
        if stream.is_closed() {
            // A `stream_close` before `keep` has found no iterator to close.
            asyncio::close(self.namespace, stream.id);
        }
        Ok(())
    }

    /// Returns `{items, Items}` or `done`, for a demand.
    fn next<'a>(&self, count: usize, env: Env<'a>) -> Result<Answer<'a>, Error> {
        let stream = self.stream().ok_or_else(malformed)?;
        let batch = match asyncio::next_batch(self.namespace, stream.id, count, &**self.host) {
            Ok(Some(items)) => to_message(env, items.as_any(), &**self.host),
            Ok(None) => {
                stream.finish();
                return Ok(Answer::compact(atoms::done().encode(env)));
            }
            Err(error) => Err(error.into()),
        };
        match batch {
            Ok(answer) => Ok(answer.map(|items| (atoms::items(), items).encode(env))),
            Err(error) => {
                // The worker closes the iterator after this job, since the interrupt that has hit
                // it would hit its `finally` as well.
                stream.fail();
                Err(error)
            }
        }
    }

    /// Returns the stream that the job is a demand of.
    fn stream(&self) -> Option<&ResourceArc<Stream>> {
        let demand: &dyn Any = &**self.host.job()?.demand()?;
        demand.downcast_ref().map(|StreamDemand(stream)| stream)
    }
}
