//! Asyncio tasks of jobs: a job that has returned a coroutine goes on as a task of the event loop of
//! its lease, while the worker serves other jobs.
//!
//! The tasks are kept in the namespace of the lease. What others see of them, for cancels from other
//! threads, is with the host. Runs on the worker, attached.

use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;

use super::event_loop::{loop_waker, module};
use crate::call_stack;
use crate::host::{Host, TaskOutcome};
use crate::interpreter;
use crate::loop_waker::LoopWaker;
use crate::namespace::Task;

/// The host of a task, where code of the task finds it: see `event_loop.py`.
#[pyclass(frozen, module = "erlang")]
struct TaskHost(Arc<dyn Host>);

/// Called by the loop when a task is done.
#[pyclass(frozen, module = "erlang")]
struct DoneCallback {
    host: Arc<dyn Host>,
}

/// Starts `coroutine` as a task of the innermost call of this thread, whose `finish_task` is called at
/// its end, maybe before this returns. Called with interrupts masked: a task that is not known to the
/// host would go on for ever. Returns the waker of the loop.
///
/// # Errors
/// There is no task.
pub fn begin(coroutine: &Bound<'_, PyAny>, host: &Arc<dyn Host>) -> PyResult<Arc<LoopWaker>> {
    let py = coroutine.py();
    let call = call_stack::innermost();
    let tasks = call.as_ref().map(|call| &call.namespace.tasks);
    let is_first = tasks.is_none_or(|tasks| tasks.borrow().is_empty());
    let done = DoneCallback {
        host: Arc::clone(host),
    };
    let args = (coroutine, TaskHost(Arc::clone(host)), done, is_first);
    let task = module(py)?.call_method1(intern!(py, "begin"), args)?;
    let waker = loop_waker(py)?;
    if let Some(tasks) = tasks {
        tasks.borrow_mut().push((Arc::clone(host), task.unbind()));
    }
    Ok(waker)
}

#[pymethods]
impl DoneCallback {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        if let Some(call) = call_stack::innermost() {
            let tasks = &call.namespace.tasks;
            let is_own = |(host, _): &Task| Arc::ptr_eq(host, &self.host);
            let index = tasks.borrow().iter().position(is_own);
            // Dropped after the borrow.
            let ended = index.map(|index| tasks.borrow_mut().swap_remove(index));
            drop(ended);
        }
        self.host.finish_task(py, outcome(task));
    }
}

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

/// Called by the loop when it was woken while a call waits in it. Cancels the tasks that must stop;
/// `true` if the call itself must stop.
#[pyfunction]
pub(super) fn cancel_unwanted(py: Python<'_>) -> bool {
    let Some(call) = call_stack::innermost() else {
        return false;
    };
    call.host.cancel_unwanted_tasks(py);
    call.host.must_stop()
}

/// Cancels the task of `host`, if it is one of the innermost call.
pub fn cancel(py: Python<'_>, host: &Arc<dyn Host>) {
    let Some(call) = call_stack::innermost() else {
        return;
    };
    let find = |(other, task): &Task| Arc::ptr_eq(other, host).then(|| task.clone_ref(py));
    let task = call.namespace.tasks.borrow().iter().find_map(find);
    if let Some(task) = task {
        cancel_task(py, &task);
    }
}

/// Cancels every task of the innermost call, as far as their loop is whole.
pub fn cancel_all(py: Python<'_>) {
    let call = call_stack::innermost();
    let tasks = call.map(|call| call.namespace.tasks.take());
    for (_, task) in tasks.into_iter().flatten() {
        cancel_task(py, &task);
    }
}

fn cancel_task(py: Python<'_>, task: &Py<PyAny>) {
    if let Err(error) = task.call_method0(py, intern!(py, "cancel")) {
        error.write_unraisable(py, None);
    }
}

/// The host of the running code: that of its asyncio task, if it is one, or of the innermost call of
/// the calling thread, or the one that stands for no job.
///
/// # Errors
/// Python has not been set up.
pub fn host(py: Python<'_>) -> PyResult<Arc<dyn Host>> {
    let Some(call) = call_stack::innermost() else {
        return Ok(Arc::clone(&interpreter::find(py)?.host));
    };
    let task = if call.namespace.tasks.borrow().is_empty() {
        None
    } else {
        task_host(py)
    };
    Ok(task.unwrap_or(call.host))
}

fn task_host(py: Python<'_>) -> Option<Arc<dyn Host>> {
    let host = module(py).ok()?.call_method0(intern!(py, "job")).ok()?;
    Some(Arc::clone(&host.cast::<TaskHost>().ok()?.get().0))
}
