//! The implementation of [`Host`]: one value for a job, for the event loop of a lease, or for code
//! that belongs to neither.
//!
//! Called by the engine on the thread that runs the code, attached. Only `park` blocks, detached;
//! messages are sent from here, which is never a scheduler thread.

use py_codec::Form;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustler::{Encoder, Env, LocalPid, ResourceArc, Term};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use py_engine::host::callback::Callback;
use py_engine::host::{Function, Host, LogRecord, Stream, TaskOutcome, Wake};
use py_engine::interrupt::Interrupted;

use super::cancel::cancel_unwanted;
use super::output::Written;
use super::{Current, messages, monitor, nested, not_running, output};
use crate::atoms;
use crate::convert::to_term;
use crate::error::Error;
use crate::job::{CallbackHandle, CallbackQueue, Job, Pending, ReplyBuffer};
use crate::pool::Lease;
use crate::vm::{VM, notify_watchdog};
use crate::watch::Task;

pub(crate) struct JobHost {
    job: Option<Arc<Job>>,
    lease: Option<Arc<Lease>>,
    /// The process that a job ran for, in a thread that its code has started, and the mark of the job.
    started_by: Option<(LocalPid, Arc<AtomicBool>)>,
}

impl JobHost {
    pub(crate) fn new(job: Option<&Arc<Job>>, lease: Option<&Arc<Lease>>) -> Arc<Self> {
        Arc::new(Self {
            job: job.cloned(),
            lease: lease.cloned(),
            started_by: None,
        })
    }

    /// Returns the NIF's host behind the engine's reference to it.
    pub(crate) fn of(host: &dyn Host) -> Option<&Self> {
        host.as_any().downcast_ref()
    }

    pub(crate) fn job(&self) -> Option<&Arc<Job>> {
        self.job.as_ref()
    }

    pub(crate) fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    /// Builds `{Id, Handle, Lease, Callers}`, by which the process of a callback answers it and
    /// submits jobs to it.
    fn callback_term<'a>(&self, env: Env<'a>, callback: &Arc<Callback>) -> Term<'a> {
        let pending = match &self.job {
            Some(job) => Arc::clone(job.ticket.pending()),
            None => Pending::new(usize::MAX),
        };
        let queue = CallbackQueue::new(callback, self.job.clone(), pending, nested);
        let handle = ResourceArc::new(CallbackHandle(queue));
        let lease = match &self.lease {
            Some(lease) => lease.id.encode(env),
            None => atoms::none().encode(env),
        };
        let callers = match &self.job {
            Some(job) => job.callers(env),
            None => Term::list_new_empty(env),
        };
        (callback.id, handle, lease, callers).encode(env)
    }

    /// Returns the process that the code writes for.
    fn reader(&self) -> Option<LocalPid> {
        let caller = self.job.as_ref().map(|job| job.caller);
        caller.or_else(|| self.started_by.as_ref().map(|(caller, _)| *caller))
    }

    /// Returns what the threads have that the code starts.
    fn starter(&self) -> Option<(LocalPid, Arc<AtomicBool>)> {
        let job = self.job.as_ref();
        let starter = job.map(|job| (job.caller, job.printed_mark()));
        starter.or_else(|| self.started_by.clone())
    }

    fn task_result<'py>(
        &self,
        py: Python<'py>,
        outcome: TaskOutcome<'py>,
    ) -> Result<Bound<'py, PyAny>, Error> {
        let error = match outcome {
            TaskOutcome::Value(value) => return Ok(value),
            // The cancel of a job that may go on comes from its own code, and is an exception as
            // others are.
            TaskOutcome::Cancelled(_)
                if self.must_stop() || self.lease.as_ref().is_some_and(|l| l.is_ended()) =>
            {
                return Err(Error::Interrupted);
            }
            TaskOutcome::Cancelled(error) | TaskOutcome::Raised(error) => error,
        };
        // An interrupt may have been meant for another job.
        if error.is_instance_of::<Interrupted>(py) {
            return Err(Error::Interrupted);
        }
        Err(self.capture(py, error))
    }

    /// Captures the exception of a task. Its `__str__` may never end, so the watchdog is shown the
    /// job as a task of the thread, and interrupts it as any job.
    fn capture(&self, py: Python<'_>, error: PyErr) -> Error {
        let Some(job) = &self.job else {
            return error.into();
        };
        let current = Current::get();
        let task = Task::Job(Arc::clone(job), self.lease.clone());
        let depth = current.watched.begin(task);
        let error = Error::from(error);
        if current.watched.resume(py.into(), depth) {
            error
        } else {
            Error::Interrupted
        }
    }
}

impl Host for JobHost {
    fn must_stop(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.must_stop())
    }

    fn is_registered(&self, name: &str) -> bool {
        VM.callbacks.is_registered(name)
    }

    fn registered(&self) -> Vec<String> {
        VM.callbacks.registered()
    }

    fn call(
        &self,
        function: Function<'_>,
        args: &Bound<'_, PyTuple>,
        callback: &Arc<Callback>,
    ) -> PyResult<()> {
        // A job may run in the middle of this call, so the thread must be known.
        let _current = Current::get();
        let args = args.to_list();
        let server = VM.callbacks.pid().ok_or_else(not_running)?;
        let sent = ReplyBuffer::new().send_to(&server, |env| {
            let args = to_term(env, args.as_any(), self, Form::default())?;
            let tag = args.tag();
            let callback = self.callback_term(env, callback);
            let function = match function {
                Function::Registered(name) => name.encode(env),
                Function::WithKeywords(name) => (atoms::keywords(), name).encode(env),
                Function::WaitDown => atoms::wait_down().encode(env),
                Function::State => atoms::state().encode(env),
                Function::Apply => atoms::apply().encode(env),
            };
            let message =
                |args| (atoms::py_callback(), callback, function, (tag, args)).encode(env);
            Ok(args.map(message))
        });
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(not_running()),
            Err(error) => Err(error.into_exception()),
        }
    }

    fn end_call(&self, callback: &Callback) {
        if let Some(server) = VM.callbacks.pid() {
            let message = (atoms::py_callback(), callback.id, atoms::ended());
            ReplyBuffer::new().notify(&server, message);
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Current::get().waker()
    }

    fn park(&self, py: Python<'_>, is_woken: &(dyn Fn() -> bool + Send + Sync)) {
        Current::get().park(py, self.lease.is_some(), is_woken);
    }

    fn send(&self, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        messages::send(self, dest, message)
    }

    fn caller<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.job {
            Some(job) => messages::pid_object(py, job.caller),
            None => {
                let text = "no call of an Erlang process runs in this thread";
                Err(PyRuntimeError::new_err(text))
            }
        }
    }

    fn whereis<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        messages::whereis(name)
    }

    fn atom<'py>(&self, py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>> {
        messages::atom(py, name, create)
    }

    fn watch<'py>(&self, dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        monitor::watch(self, dest)
    }

    fn finish_task(&self, py: Python<'_>, outcome: TaskOutcome<'_>) {
        let (Some(job), Some(lease)) = (&self.job, &self.lease) else {
            return;
        };
        if !lease.in_flight().contains(job) {
            return;
        }
        let mut replies = ReplyBuffer::new();
        let write = || {
            replies.write(job, |env| {
                let value = self.task_result(py, outcome)?;
                let answer = to_term(env, &value, self, Form::default())?;
                let tag = answer.tag();
                Ok(answer.map(|value| (tag, value).encode(env)))
            })
        };
        let written = catch_unwind(AssertUnwindSafe(write));
        // The job stays in flight until here: if the code of `write` is stuck, the watchdog takes
        // it off the list, and with it the part of replying and of counting it as finished.
        if !lease.in_flight().remove(job) {
            return;
        }
        // Counted also after a panic: the end of the lease waits for it.
        lease.finish_job();
        match written {
            Ok(Some(message)) => replies.send_reply(job, message),
            Ok(None) => {}
            // A panic is caught here, since the loop would catch it too, and go on.
            Err(_) => replies.refuse(job, Error::WorkerCrashed),
        }
    }

    fn cancel_unwanted_tasks(&self, py: Python<'_>) {
        if let Some(lease) = &self.lease {
            cancel_unwanted(py, lease, &mut ReplyBuffer::new());
        }
    }

    fn import_ends(&self) {
        if let Some(current) = Current::existing() {
            current.watched.restart_escalations();
        }
    }

    fn import_ended(&self) {
        if Current::existing().is_some_and(|current| current.watched.must_stop()) {
            notify_watchdog();
        }
    }

    fn is_worker(&self) -> bool {
        Current::existing().is_some_and(|current| current.worker().is_some())
    }

    fn output(&self, py: Python<'_>, stream: Stream, text: &str) {
        match (&self.job, &self.started_by) {
            (Some(job), _) => job.set_printed(),
            // The job may go on, and wait for the thread.
            (None, Some((_, printed))) => printed.store(true, Ordering::Relaxed),
            (None, None) => {}
        }
        output::write(py, self, self.reader(), &Written::Text(stream, text));
    }

    fn log(&self, py: Python<'_>, record: LogRecord) {
        let lease = self.lease.as_ref().map(|lease| lease.id);
        output::write(py, self, self.reader(), &Written::Log(&record, lease));
    }

    fn of_threads(&self) -> Option<Arc<dyn Host>> {
        Some(Arc::new(Self {
            job: None,
            lease: None,
            started_by: self.starter(),
        }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
