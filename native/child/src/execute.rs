//! Runs the job of a frame on the calling thread, and sends its reply. Called by the main thread, and by
//! threads that wait for a call of Erlang, attached; blocks as the code of the job does.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use py_codec::etf::Decoder;
use py_codec::frame::{Fields, FrameWriter, Message};
use py_codec::protocol::{from_child, request, status};
use py_codec::{Error, Form, Why, read_arguments, read_kwargs};
use py_engine::asyncio::{self, settle};
use py_engine::call_stack::{self, with_call};
use py_engine::erlang::logging;
use py_engine::execute::{self as engine, attribute, resolve};
use py_engine::host::Host;
use py_engine::interrupt::InterruptMask;
use py_engine::lock::lock;
use py_engine::namespace::Namespace;
use py_engine::namespace::conversion::Conversion;
use py_engine::python::code_cache::Mode;

use crate::child::Child;
use crate::host::ChildHost;
use crate::incoming::{Incoming, incoming, send};
use crate::jobs::JobState;
use crate::payload::Payload;
use crate::reload::reload_modules;
use crate::values::{Failure, add_value, failed_reply, finish, plain_reply, value};

/// Runs a job in a namespace, and sends its reply.
pub(crate) fn run<'py>(
    py: Python<'py>,
    child: &'static Child,
    namespace: &Rc<Namespace<'py>>,
    incoming: &Incoming<'_>,
) {
    let parent = ChildHost::of_innermost();
    let job = JobState::new(incoming.id, incoming.caller.to_vec(), parent);
    {
        let mut functions = lock(&child.functions);
        if functions.0 != incoming.generation {
            *functions = (incoming.generation, std::collections::HashSet::new());
        }
    }
    logging::set_configuration(u32::try_from(incoming.logging).unwrap_or(0));
    let is_main = child.is_main_thread();
    if is_main {
        child.jobs.begin(&job);
    }
    let host = ChildHost::new(child, Some(&job));
    let dyn_host: Arc<dyn Host> = host.clone();
    let execution = Execution {
        py,
        child,
        namespace,
        host: &host,
        job: &job,
        has_lease: incoming.lease != 0,
    };
    let (reply, is_current) = with_call(&dyn_host, namespace, || {
        catch_unwind(AssertUnwindSafe(|| {
            if is_main && job.is_outermost() {
                reload_modules(py, &host, incoming.reloads);
            }
            if job.must_stop() {
                return Some(plain_reply(job.id, status::INTERRUPTED));
            }
            execution.reply(incoming.request)
        }))
    });
    // SAFETY: attached. Clears an error that C code has left set: the next job would fail by it.
    unsafe { ffi::PyErr_Clear() };
    if is_main {
        child.jobs.end(&job);
        child.thread.end(py.into());
    }
    let reply = if is_current {
        reply.unwrap_or_else(|_| Some(plain_reply(job.id, status::CRASHED)))
    } else {
        // The job around this one has ended, and has ended its call with it: see `call_stack`.
        Some(plain_reply(job.id, status::INTERRUPTED))
    };
    if let Some(frame) = reply {
        send(py, child, &frame);
    }
}

/// Runs the job of a payload in the middle of the innermost call of the thread, in its namespace, or in
/// that of the thread.
pub(crate) fn run_nested(py: Python<'_>, child: &'static Child, payload: &Payload) {
    let Some(incoming) = incoming(py, child, payload) else {
        return;
    };
    match call_stack::innermost() {
        Some(call) => run(py, child, &call.namespace, &incoming),
        None => match Namespace::of_thread(py) {
            Ok(namespace) => run(py, child, &namespace, &incoming),
            Err(error) => send(py, child, &failed_reply(incoming.id, &error.into())),
        },
    }
}

impl ChildHost {
    /// Returns the job of the innermost call of the thread.
    fn of_innermost() -> Option<Arc<JobState>> {
        let call = call_stack::innermost()?;
        ChildHost::of(&*call.host)?.job.clone()
    }
}

/// The surroundings of a job that runs.
struct Execution<'a, 'py> {
    py: Python<'py>,
    child: &'static Child,
    namespace: &'a Namespace<'py>,
    host: &'a Arc<ChildHost>,
    job: &'a Arc<JobState>,
    has_lease: bool,
}

type Done<T> = Result<T, Failure>;

/// Returns the error for a request that the VM has not written well. Unreachable.
fn malformed() -> Failure {
    Error::unconvertible(Why::NotUnicode, "job").into()
}

impl<'py> Execution<'_, 'py> {
    /// Runs the request, and returns the frame of the reply; `None` if a task will reply.
    fn reply(&self, request: Fields<'_>) -> Option<Message> {
        let done = if self.job.must_stop() {
            Err(Failure::Interrupted)
        } else {
            self.namespace.run(|| self.execute(request))
        };
        match done {
            Ok(frame) => frame,
            // Code may turn an interrupt, also one for an outer job, into another exception.
            Err(_) if self.job.must_stop() => {
                Some(failed_reply(self.job.id, &Failure::Interrupted))
            }
            Err(failure) => Some(failed_reply(self.job.id, &failure)),
        }
    }

    fn execute(&self, mut fields: Fields<'_>) -> Done<Option<Message>> {
        let mut form = Form::default();
        if fields.clone().byte() == Some(request::IN_FORM) {
            fields.byte();
            form = Form::from_bits(fields.byte().ok_or_else(malformed)?);
        }
        let done = || Ok(Some(plain_reply(self.job.id, status::DONE)));
        let mut source = fields;
        match fields.byte().ok_or_else(malformed)? {
            request::EMPTY => done(),
            request::EXEC => self.value(source, |_| done()),
            request::OPEN => {
                let stream = fields.word().ok_or_else(malformed)?;
                self.value(fields, |value| {
                    let iterator = asyncio::iterate(&settle(value)?)?;
                    asyncio::keep(self.namespace, stream, iterator);
                    Ok(())
                })?;
                done()
            }
            request::NEXT => {
                let stream = fields.word().ok_or_else(malformed)?;
                let count = fields.word().ok_or_else(malformed)?;
                self.next(stream, usize::try_from(count).unwrap_or(usize::MAX))
            }
            request::COLLECT => self.value(fields, |value| {
                let items = asyncio::collect(&settle(value)?, &**self.host)?;
                self.answer(status::VALUE, items.as_any(), form)
            }),
            request::ASYNC => self.value(fields, |value| self.begin(value)),
            _ => {
                // A call, an expression, a block or an object.
                source = Fields::new(source.rest());
                self.value(source, |value| {
                    self.answer(status::VALUE, &settle(value)?, form)
                })
            }
        }
    }

    /// Calls `finish` with the value of a source or of statements, while the locals are alive.
    fn value<T>(
        &self,
        mut fields: Fields<'_>,
        finish: impl FnOnce(Bound<'py, PyAny>) -> Done<T>,
    ) -> Done<T> {
        let py = self.py;
        let rules = Conversion::new(&**self.host);
        let kind = fields.byte().ok_or_else(malformed)?;
        let request = match kind {
            request::CALL | request::CALL_METHOD => {
                let module = fields.bytes().ok_or_else(malformed)?;
                let function = fields.text().ok_or_else(malformed)?;
                let args = fields.bytes().ok_or_else(malformed)?;
                let kwargs = self.names(fields.bytes().ok_or_else(malformed)?)?;
                let function = PyString::new(py, function);
                let callable = if kind == request::CALL {
                    let module = std::str::from_utf8(module).map_err(|_| malformed())?;
                    resolve(self.namespace, &PyString::new(py, module), &function)?
                } else {
                    attribute(value(py, self.child, module, &rules)?, &function)?
                };
                let mut decoder = Decoder::new(args)?.with_objects(&self.child.objects);
                engine::Request::Call {
                    callable,
                    args: read_arguments(py, &mut decoder, &rules)?,
                    kwargs,
                }
            }
            request::EVAL | request::EXEC | request::BLOCK => engine::Request::Run {
                mode: match kind {
                    request::EVAL => Mode::Eval,
                    request::EXEC => Mode::Exec,
                    _ => Mode::Block,
                },
                source: fields.text().ok_or_else(malformed)?,
                locals: self.names(fields.bytes().ok_or_else(malformed)?)?,
            },
            request::OBJECT => {
                let object = fields.bytes().ok_or_else(malformed)?;
                return finish(value(py, self.child, object, &rules)?);
            }
            _ => return Err(malformed()),
        };
        engine::execute(self.namespace, request, finish)
    }

    /// Returns the dict of a map with names as keys; `None` if there is none.
    fn names(&self, term: &[u8]) -> Done<Option<Bound<'py, PyDict>>> {
        if term.is_empty() {
            return Ok(None);
        }
        let mut decoder = Decoder::new(term)?.with_objects(&self.child.objects);
        let rules = Conversion::new(&**self.host);
        Ok(Some(read_kwargs(self.py, &mut decoder, &rules)?))
    }

    fn answer(&self, status: u8, value: &Bound<'py, PyAny>, form: Form) -> Done<Option<Message>> {
        let mut frame = FrameWriter::new(from_child::REPLY);
        frame.word(self.job.id).byte(status);
        let rules = Conversion::with_form(&**self.host, form);
        add_value(&mut frame, self.child, value, &rules)?;
        Ok(Some(finish(self.py, &mut frame)))
    }

    /// Starts a coroutine as a task, which replies at its end. Another value is answered at once, and so
    /// is the value of a coroutine that has no lease to live in, or whose job is nested.
    fn begin(&self, value: Bound<'py, PyAny>) -> Done<Option<Message>> {
        if !self.has_lease || !asyncio::is_coroutine(&value) || !call_stack::is_outermost() {
            return self.answer(status::VALUE, &settle(value)?, Form::default());
        }
        let host: Arc<dyn Host> = Arc::clone(self.host) as Arc<dyn Host>;
        let _mask = InterruptMask::new(self.py);
        self.child.jobs.begin_task(self.job);
        // Sent first, since the task may be done, and reply, before `begin` returns.
        send(
            self.py,
            self.child,
            &plain_reply(self.job.id, status::DEFERRED),
        );
        match asyncio::begin(&value, &host) {
            Ok(waker) => {
                self.child.jobs.set_tasks_loop(waker);
                Ok(None)
            }
            Err(error) if self.child.jobs.end_task(self.job) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Returns the next items of a stream.
    fn next(&self, stream: u64, count: usize) -> Done<Option<Message>> {
        match asyncio::next_batch(self.namespace, stream, count, &**self.host)? {
            Some(items) => self.answer(status::ITEMS, items.as_any(), Form::default()),
            None => Ok(Some(plain_reply(self.job.id, status::END))),
        }
    }
}
