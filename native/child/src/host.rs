//! The implementation of the engine's [`Host`]: one value for a job, or for code that belongs to none.
//!
//! Called by the engine on the thread that runs the code, attached. Only `park`, and the questions, block.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::any::Any;
use std::sync::Arc;
use std::thread;

use py_codec::frame::FrameWriter;
use py_codec::protocol::{from_child, function, outcome, question, status};
use py_engine::asyncio;
use py_engine::host::callback::Callback;
use py_engine::host::{Function, Host, LogRecord, Stream, TaskOutcome, Wake};
use py_engine::lock::lock;
use py_engine::namespace::conversion::Conversion;

use crate::child::Child;
use crate::jobs::JobState;
use crate::questions::{End, MAX_NAME, ask, into_exception, lost};
use crate::receive::{drain, has_frames, next, take};
use crate::values::{add_value, exception, finish, plain_reply, task_reply, value};

pub(crate) struct ChildHost {
    pub(crate) child: &'static Child,
    pub(crate) job: Option<Arc<JobState>>,
    /// The number of the job whose code has started the thread, or 0.
    starter: u64,
}

impl ChildHost {
    pub(crate) fn new(child: &'static Child, job: Option<&Arc<JobState>>) -> Arc<Self> {
        let job = job.cloned();
        Arc::new(Self {
            child,
            job,
            starter: 0,
        })
    }

    /// Returns the child's host behind the engine's reference to it.
    pub(crate) fn of(host: &dyn Host) -> Option<&Self> {
        host.as_any().downcast_ref()
    }

    /// Returns the number of the job that the output of the code belongs to, or 0.
    pub(crate) fn output_job(&self) -> u64 {
        self.job.as_ref().map_or(self.starter, |job| job.id)
    }

    pub(crate) fn is_main(&self) -> u8 {
        u8::from(self.child.is_main_thread())
    }

    /// Asks a question with one text as its argument.
    pub(crate) fn ask(&self, question: u8, argument: &[u8]) -> PyResult<End> {
        Python::attach(|py| {
            ask(py, self.child, self, |id| {
                let mut frame = FrameWriter::new(from_child::ASK);
                frame.word(id).byte(self.is_main()).byte(question);
                frame.rest(argument);
                Ok(frame.finish())
            })
        })
    }

    /// Appends the term of an object, and `special` before it.
    pub(crate) fn add(
        &self,
        frame: &mut FrameWriter<'_>,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        add_value(frame, self.child, object, &Conversion::new(self)).map_err(exception)
    }
}

impl Host for ChildHost {
    fn must_stop(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.must_stop())
    }

    fn is_registered(&self, name: &str) -> bool {
        let functions = &self.child.functions;
        if lock(functions).1.contains(name) {
            return true;
        }
        if name.len() > MAX_NAME {
            return false;
        }
        let end = self.ask(question::IS_REGISTERED, name.as_bytes());
        let is_known = end.is_ok_and(|end| end.outcome == outcome::VALUE);
        if is_known {
            lock(functions).1.insert(name.to_owned());
        }
        is_known
    }

    fn registered(&self) -> Vec<String> {
        let Ok(end) = self.ask(question::REGISTERED, b"") else {
            return Vec::new();
        };
        let names = Python::attach(|py| {
            let names = value(py, self.child, end.term().ok()?, &|| false).ok()?;
            names.extract().ok()
        });
        names.unwrap_or_default()
    }

    fn call(
        &self,
        function: Function<'_>,
        args: &Bound<'_, PyTuple>,
        callback: &Arc<Callback>,
    ) -> PyResult<()> {
        let (number, name) = match function {
            Function::Registered(name) => (function::REGISTERED, name),
            Function::WithKeywords(name) => (function::WITH_KEYWORDS, name),
            Function::WaitDown => (function::WAIT_DOWN, ""),
            Function::State => (function::STATE, ""),
            Function::Apply => (function::APPLY, ""),
        };
        let mut frame = FrameWriter::new(from_child::CALL);
        frame.word(callback.id);
        frame.word(self.job.as_ref().map_or(0, |job| job.id));
        frame
            .byte(self.is_main())
            .byte(number)
            .bytes(name.as_bytes());
        self.add(&mut frame, args.to_list().as_any())?;
        let frame = finish(args.py(), &mut frame);
        let calls = &self.child.calls;
        lock(calls).insert(callback.id, Arc::clone(callback));
        self.child.connection.send(&frame).map_err(|_| {
            lock(calls).remove(&callback.id);
            lost()
        })
    }

    fn end_call(&self, callback: &Callback) {
        lock(&self.child.calls).remove(&callback.id);
        let mut frame = FrameWriter::new(from_child::END_CALL);
        frame.word(callback.id);
        // Fails if the VM has gone: the process is about to end.
        let _: Result<(), _> = self.child.connection.send(&frame.finish());
    }

    fn waker(&self) -> Arc<dyn Wake> {
        if self.child.is_main_thread() {
            Arc::new(MainWaker(self.child))
        } else {
            Arc::new(thread::current())
        }
    }

    fn park(&self, py: Python<'_>, is_woken: &(dyn Fn() -> bool + Send + Sync)) {
        if self.child.is_main_thread() {
            while !is_woken() {
                if let Some((kind, payload)) = next(py, self.child, Some(is_woken)) {
                    take(self.child, kind, payload);
                }
            }
            return;
        }
        py.detach(|| {
            while !is_woken() {
                thread::park();
            }
        });
    }

    fn caller<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(job) = &self.job else {
            let text = "no call of an Erlang process runs in this thread";
            return Err(PyRuntimeError::new_err(text));
        };
        value(py, self.child, &job.caller, &|| false).map_err(into_exception)
    }

    fn send(&self, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        self.send_message(dest, message)
    }

    fn whereis<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.registered_process(name)
    }

    fn atom<'py>(&self, py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>> {
        self.existing_atom(py, name, create)
    }

    fn watch<'py>(&self, dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.monitor(dest)
    }

    fn finish_task(&self, py: Python<'_>, outcome: TaskOutcome<'_>) {
        let Some(job) = &self.job else { return };
        self.child.jobs.begin(job);
        let reply = task_reply(py, self.child, job, outcome, &Conversion::new(self));
        self.child.jobs.end(job);
        if self.child.jobs.end_task(job) {
            // Fails if the VM has gone: the process is about to end.
            let _: Result<(), _> = self.child.connection.send(&reply);
        }
    }

    fn cancel_unwanted_tasks(&self, py: Python<'_>) {
        drain(py, self.child);
        cancel_unwanted(py, self.child);
        // The control thread has told this loop of the frames that were taken here.
        self.loop_runs(
            self.child
                .thread
                .loop_waker()
                .map(|waker| waker as Arc<dyn Wake>),
        );
    }

    fn import_ends(&self) {}

    fn import_ended(&self) {
        let job = self.child.jobs.innermost();
        if self.child.is_main_thread() && job.is_some_and(|job| job.must_stop()) {
            let mut frame = FrameWriter::new(from_child::IMPORTING);
            frame.byte(0);
            // Fails if the VM has gone: the process is about to end.
            let _: Result<(), _> = self.child.connection.send(&frame.finish());
            self.child.connection.control_thread.wake();
        }
    }

    fn is_worker(&self) -> bool {
        self.child.is_main_thread()
    }

    fn loop_runs(&self, waker: Option<Arc<dyn Wake>>) {
        if !self.child.is_main_thread() {
            return;
        }
        if let Some(waker) = &waker
            && has_frames(self.child)
        {
            waker.wake();
        }
        let is_running = waker.is_some();
        *lock(&self.child.loop_waker) = waker;
        if is_running {
            self.child.connection.control_thread.wake();
        }
    }

    fn output(&self, py: Python<'_>, stream: Stream, text: &str) {
        self.send_output(py, stream, text);
    }

    fn log(&self, py: Python<'_>, record: LogRecord) {
        self.send_log(py, &record);
    }

    fn of_threads(&self) -> Option<Arc<dyn Host>> {
        let starter = self.job.as_ref().map_or(self.starter, |job| job.id);
        Some(Arc::new(Self {
            child: self.child,
            job: None,
            starter,
        }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Cancels the tasks that must stop, and replies for those that swallow their cancels. Called by the main
/// thread, attached, within a call of the lease.
pub(crate) fn cancel_unwanted(py: Python<'_>, child: &'static Child) {
    for job in child.jobs.tasks_to_cancel() {
        asyncio::cancel_if(py, |host| {
            let other = ChildHost::of(&**host).and_then(|host| host.job.as_ref());
            other.is_some_and(|other| Arc::ptr_eq(other, &job))
        });
    }
    for job in child.jobs.take_uncancelled() {
        let reply = plain_reply(job.id, status::INTERRUPTED);
        // Fails if the VM has gone: the process is about to end.
        let _: Result<(), _> = child.connection.send(&reply);
    }
}

/// Wakes the main thread from `park`.
struct MainWaker(&'static Child);

impl Wake for MainWaker {
    fn wake(&self) {
        self.0.connection.main.wake();
    }
}
