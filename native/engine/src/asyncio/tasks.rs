//! Asyncio tasks of jobs: a job that has returned a coroutine goes on as a task of the event loop of
//! its lease, while the worker serves other jobs.
//!
//! The namespace of the lease keeps the tasks; the host keeps what other threads need in order to
//! cancel them. Called on the worker, attached; blocks on nothing.

use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;

use super::event_loop::{loop_waker, module};
use crate::call_stack;
use crate::host::{Host, TaskOutcome};
use crate::interpreter;
use crate::loop_waker::LoopWaker;
use crate::python::output;
use crate::task_list::Task;

/// The host of a task, as the context variable of `event_loop.py` keeps it.
#[pyclass(frozen, module = "erlang")]
struct TaskHost(Arc<dyn Host>);

/// The callback of a task that is done, called by the loop.
#[pyclass(frozen, module = "erlang")]
struct DoneCallback {
    host: Arc<dyn Host>,
}

/// Starts `coroutine` as a task of the innermost call of this thread, and returns the waker of the
/// loop. `finish_task` of `host` is called at the end of the task, perhaps before `begin` returns.
/// Called with interrupts masked: a task that the host does not know would run for ever.
///
/// # Errors
/// The task was not started.
pub fn begin(coroutine: &Bound<'_, PyAny>, host: &Arc<dyn Host>) -> PyResult<Arc<LoopWaker>> {
    let py = coroutine.py();
    let call = call_stack::innermost();
    let tasks = call.as_ref().map(|call| &call.namespace.tasks);
    let is_first = tasks.is_none_or(|tasks| tasks.is_empty());
    let done = DoneCallback {
        host: Arc::clone(host),
    };
    let args = (coroutine, TaskHost(Arc::clone(host)), done, is_first);
    let task = module(py)?.call_method1(intern!(py, "begin"), args)?;
    let waker = loop_waker(py)?;
    if let Some(tasks) = tasks {
        tasks.push(Task {
            host: Arc::clone(host),
            task: task.unbind(),
            coroutine: coroutine.clone().unbind(),
        });
    }
    Ok(waker)
}

#[pymethods]
impl DoneCallback {
    /// Removes the task from the namespace, and passes its outcome to the host.
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        if let Some(call) = call_stack::innermost() {
            drop(call.namespace.tasks.remove(&self.host));
        }
        output::flush(py);
        self.host.finish_task(py, outcome(task));
    }
}

/// Returns the outcome of a task that is done.
fn outcome<'py>(task: &Bound<'py, PyAny>) -> TaskOutcome<'py> {
    let py = task.py();
    let is_cancelled = task
        .call_method0(intern!(py, "cancelled"))
        .and_then(|is_cancelled| is_cancelled.is_truthy());
    match (is_cancelled, task.call_method0(intern!(py, "result"))) {
        (Ok(true), Err(error)) => TaskOutcome::Cancelled(error),
        (_, Err(error)) | (Err(error), _) => TaskOutcome::Raised(error),
        (_, Ok(value)) => TaskOutcome::Value(value),
    }
}

/// Cancels the tasks that must stop; returns `true` if the innermost call itself must stop. Called by
/// the loop when its waker has woken it while a blocking call runs it.
#[pyfunction]
pub(super) fn cancel_unwanted(py: Python<'_>) -> bool {
    let Some(call) = call_stack::innermost() else {
        return false;
    };
    call.host.cancel_unwanted_tasks(py);
    call.host.must_stop()
}

/// Cancels the task of `host`, if the namespace of the innermost call has it.
pub fn cancel(py: Python<'_>, host: &Arc<dyn Host>) {
    cancel_if(py, |other| Arc::ptr_eq(other, host));
}

/// Cancels the task whose host `matches` accepts, if the namespace of the innermost call has it.
pub fn cancel_if(py: Python<'_>, matches: impl Fn(&Arc<dyn Host>) -> bool) {
    let Some(call) = call_stack::innermost() else {
        return;
    };
    if let Some(task) = call.namespace.tasks.find(py, matches) {
        cancel_task(py, &task);
    }
}

/// Cancels every task in the namespace of the innermost call. A task whose loop is broken makes no
/// progress after that: the caller must not wait for its end.
pub fn cancel_all(py: Python<'_>) {
    let call = call_stack::innermost();
    let tasks = call.map(|call| call.namespace.tasks.take());
    for task in tasks.into_iter().flatten() {
        cancel_task(py, &task.task);
    }
}

/// Cancels a task. An error is reported to `sys.unraisablehook`.
fn cancel_task(py: Python<'_>, task: &Py<PyAny>) {
    if let Err(error) = task.call_method0(py, intern!(py, "cancel")) {
        error.write_unraisable(py, None);
    }
}

/// Returns the host of the running code: of its asyncio task, else of the innermost call of the
/// calling thread, else the host of code that belongs to no job. Called on any thread, attached.
///
/// # Errors
/// Python has not been set up.
pub fn host(py: Python<'_>) -> PyResult<Arc<dyn Host>> {
    let Some(call) = call_stack::innermost() else {
        return Ok(Arc::clone(&interpreter::find(py)?.host));
    };
    let task = if call.namespace.tasks.is_empty() {
        None
    } else {
        task_host(py)
    };
    Ok(task.unwrap_or(call.host))
}

/// Returns the host of the running asyncio task, if it is the task of a job.
fn task_host(py: Python<'_>) -> Option<Arc<dyn Host>> {
    let host = module(py)
        .ok()?
        .call_method0(intern!(py, "task_host"))
        .ok()?;
    Some(Arc::clone(&host.cast::<TaskHost>().ok()?.get().0))
}
