//! What the engine asks of its surroundings.
//!
//! The NIF implements [`Host`] over the BEAM, the tests of this crate without one. One value stands
//! for one job, and is known to the code of that job by the [call stack](crate::call_stack) or by the
//! context of its asyncio task; the value that [`start`](crate::start::start) is given stands for code
//! that belongs to no job. Every method is called attached, on the thread that runs the code, unless
//! it says otherwise.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::any::Any;
use std::sync::Arc;

pub mod callback;
pub mod fifo;

use callback::Callback;

pub trait Host: Send + Sync + 'static {
    /// The code must stop: its job, or one around it, was cancelled or interrupted. Asked often, also
    /// while a conversion or a batch of items goes on.
    fn must_stop(&self) -> bool;

    /// The module of the host's own classes gets these, see `erlang/module.py`.
    fn is_registered(&self, name: &str) -> bool;
    /// The names for which `is_registered` is true.
    fn registered(&self) -> Vec<String>;

    /// Begins a call of Erlang. The answer, and the jobs that run in the middle of the call, come
    /// through `callback`.
    ///
    /// # Errors
    /// The arguments have no form in Erlang, or nothing serves calls: no answer comes then.
    fn call(
        &self,
        function: Function<'_>,
        args: &Bound<'_, PyTuple>,
        callback: &Arc<Callback>,
    ) -> PyResult<()>;
    /// Ends a call that has no answer: the code does not wait any more.
    fn end_call(&self, callback: &Callback);

    /// Wakes the calling thread from `park`.
    fn waker(&self) -> Arc<dyn Wake>;
    /// Detaches the calling thread and blocks it until `is_woken`, which is looked at after each
    /// `wake` of its waker.
    fn park(&self, py: Python<'_>, is_woken: &(dyn Fn() -> bool + Send + Sync));

    /// Sends a message to what `dest` names.
    ///
    /// # Errors
    /// No such name, a message without a form in Erlang, or no room for it.
    fn send(&self, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()>;
    /// The process that the job runs for.
    ///
    /// # Errors
    /// The code belongs to no job.
    fn caller<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// The local process that is registered by a name, if there is one.
    ///
    /// # Errors
    /// `name` is neither text nor an atom.
    fn whereis<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>;
    /// An atom; one that does not exist only if `create` is true.
    ///
    /// # Errors
    /// There is no such atom, or the name is too long for one.
    fn atom<'py>(&self, py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>>;
    /// Monitors a process: an object with an `id` and a method `reason`, as `erlang.Monitor` needs.
    ///
    /// # Errors
    /// As for `send`.
    fn watch<'py>(&self, dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// The asyncio task of the job has ended.
    fn finish_task(&self, py: Python<'_>, outcome: TaskOutcome<'_>);
    /// Cancels the tasks of the lease that must stop. Called by the event loop when it was woken
    /// while a call of the job runs it.
    fn cancel_unwanted_tasks(&self, py: Python<'_>);

    /// The outermost load of a module on the calling thread is about to end, by which interrupts were
    /// put off: code that must stop has as long for it as if that had been found out now.
    fn import_ends(&self);
    /// That load has ended, and an exception that was put off was raised.
    fn import_ended(&self);
    /// The calling thread is one that serves jobs.
    fn is_worker(&self) -> bool;

    /// For the host, which finds its own values on the call stack.
    fn as_any(&self) -> &dyn Any;
}

/// What a call of Erlang runs.
#[derive(Clone, Copy, Debug)]
pub enum Function<'a> {
    /// The function that is registered by a name.
    Registered(&'a str),
    /// Waits for the end of a monitored process.
    WaitDown,
}

/// How the task of a job has ended.
pub enum TaskOutcome<'py> {
    Value(Bound<'py, PyAny>),
    Raised(PyErr),
    /// By a cancel, of the job or of what its code awaited; with the exception that says so.
    Cancelled(PyErr),
}

/// What wakes a thread that waits. Called on any thread; never blocks.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

impl Wake for std::thread::Thread {
    fn wake(&self) {
        self.unpark();
    }
}
