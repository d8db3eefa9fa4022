//! The host: the trait by which the engine calls its surroundings.
//!
//! The NIF implements [`Host`] over the BEAM, the tests of this crate without one. One value is the
//! host of one job: the engine finds it by the [call stack](crate::call_stack), or by the context of
//! the job's asyncio task. Another value, the argument of [`start`](crate::start::start), is the host
//! of code that belongs to no job. Every method is called attached, on the thread that runs the code,
//! and does not block, unless its documentation says otherwise.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::any::Any;
use std::sync::Arc;

pub mod callback;
pub mod fifo;

use callback::Callback;

/// The surroundings of the code of one job.
pub trait Host: Send + Sync + 'static {
    /// Whether the code must stop, since its job, or one around it, was cancelled or interrupted.
    /// Called often, also during a conversion and during a batch of items.
    fn must_stop(&self) -> bool;

    /// Whether an Erlang function is registered as `name`.
    fn is_registered(&self, name: &str) -> bool;
    /// Returns the names for which `is_registered` is true, for `dir(erlang)`.
    fn registered(&self) -> Vec<String>;

    /// Begins a call of Erlang. The host passes the answer, and the jobs that run in the middle of the
    /// call, to `callback`.
    ///
    /// # Errors
    /// The arguments have no form in Erlang, or no process serves calls. `callback` gets no answer
    /// then.
    fn call(
        &self,
        function: Function<'_>,
        args: &Bound<'_, PyTuple>,
        callback: &Arc<Callback>,
    ) -> PyResult<()>;
    /// Ends a call that has no answer: the code does not wait for it any more. Called on the thread
    /// that has waited, or that drops the last reference to the call, attached.
    fn end_call(&self, callback: &Callback);

    /// Returns the waker that ends a `park` of the calling thread.
    fn waker(&self) -> Arc<dyn Wake>;
    /// Detaches the calling thread and blocks it until `is_woken` returns `true`. The host calls
    /// `is_woken` first, and after each `wake` of the waker.
    fn park(&self, py: Python<'_>, is_woken: &(dyn Fn() -> bool + Send + Sync));

    /// Sends a message to a pid, a registered name, or a pair of name and node. May block, detached,
    /// while too many messages to another node wait.
    ///
    /// # Errors
    /// No process has the name, the message has no form in Erlang, or the wait took too long.
    fn send(&self, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()>;
    /// Returns the process that the job runs for.
    ///
    /// # Errors
    /// The code belongs to no job.
    fn caller<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// Returns the local process that is registered by a name, if there is one.
    ///
    /// # Errors
    /// `name` is neither text nor an atom.
    fn whereis<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>;
    /// Returns an atom, which is made if it does not exist and `create` is true.
    ///
    /// # Errors
    /// There is no such atom, or the name is too long for one.
    fn atom<'py>(&self, py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>>;
    /// Monitors a process. Returns an object with an `id` and a method `reason`, as `erlang.Monitor`
    /// needs it.
    ///
    /// # Errors
    /// No process has the name, or `dest` is none of the forms that `send` takes.
    fn watch<'py>(&self, dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// Ends the job, whose asyncio task is done. Called by the event loop, on the worker.
    fn finish_task(&self, py: Python<'_>, outcome: TaskOutcome<'_>);
    /// Cancels the tasks of the lease that must stop. Called by the event loop when its waker has
    /// woken it while a blocking call of the job runs it.
    fn cancel_unwanted_tasks(&self, py: Python<'_>);

    /// Called before the outermost load of a module on the calling thread ends, which has masked
    /// interrupts: the host restarts the time that code has to stop, for the code after the load.
    fn import_ends(&self);
    /// Called after that load has ended: a masked exception is pending in the thread by then.
    fn import_ended(&self);
    /// Whether the calling thread is a worker.
    fn is_worker(&self) -> bool;
    /// Called before an event loop runs on the calling thread, with its waker, and after the run, with
    /// the waker of the loop around it. For a host that wakes loops by what they do not wait for.
    fn loop_runs(&self, _waker: Option<Arc<dyn Wake>>) {}

    /// Writes text of the code to standard output or error: whole lines, or a piece of a long one. May
    /// block, detached, for a short time, while much of the text before has not been written yet.
    fn output(&self, py: Python<'_>, stream: Stream, text: &str);
    /// Logs a record of the code. May block as `output` does.
    fn log(&self, py: Python<'_>, record: LogRecord);
    /// Returns the host of the output of the threads that the code starts, which may outlive the job;
    /// `None` if they are like code that belongs to no job.
    fn of_threads(&self) -> Option<Arc<dyn Host>>;

    /// Returns `self`, for the host to find its own type of a value on the call stack.
    fn as_any(&self) -> &dyn Any;
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A record of Python's `logging`.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// As Python counts: 10 for debug, 50 for critical.
    pub level: u32,
    /// The text, with the traceback of an exception.
    pub message: String,
    pub logger: String,
    pub file: String,
    pub line: u32,
    pub function: String,
}

/// The function that a call of Erlang runs.
#[derive(Clone, Copy, Debug)]
pub enum Function<'a> {
    /// The function that is registered by a name.
    Registered(&'a str),
    /// The same with keyword arguments: the arguments of the call are the list and the dict.
    WithKeywords(&'a str),
    /// Waits for the end of a monitored process.
    WaitDown,
    /// An operation on the state that all code shares: its name, and its arguments.
    State,
    /// Calls a function of a module, if the environment allows that.
    Apply,
}

impl<'a> Function<'a> {
    /// Returns the name of a registered function; `None` for the others.
    #[must_use]
    pub fn name(self) -> Option<&'a str> {
        match self {
            Self::Registered(name) | Self::WithKeywords(name) => Some(name),
            Self::WaitDown | Self::State | Self::Apply => None,
        }
    }
}

/// The end of the task of a job.
pub enum TaskOutcome<'py> {
    Value(Bound<'py, PyAny>),
    Raised(PyErr),
    /// The task was cancelled, by the host or by its own code; with the `CancelledError`.
    Cancelled(PyErr),
}

/// Wakes a waiting thread or an event loop. Called on any thread; never blocks, never attaches.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

impl Wake for std::thread::Thread {
    fn wake(&self) {
        self.unpark();
    }
}
