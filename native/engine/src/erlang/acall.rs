//! `erlang.acall`: a call of an Erlang function that a coroutine awaits. An answer, or a job of the
//! process of the callback, wakes the loop, which calls `deliver`; see `event_loop.py`.
//!
//! Called by `event_loop.py` on the thread of the loop, attached; blocks only as long as a job runs.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::call::{check_registered, end, next_id, with_keywords};
use crate::asyncio;
use crate::host::callback::{Callback, Ended, Event};
use crate::host::{Function, Host};
use crate::interrupt::Interrupted;
use crate::loop_waker::{CallbackWaker, PyLoopWaker};

/// A call under way. Its end, by `end` or by the drop of the last reference, refuses later jobs.
#[pyclass(frozen, module = "erlang")]
pub(super) struct PendingCall {
    name: String,
    host: Arc<dyn Host>,
    callback: Arc<Callback>,
    ended: AtomicBool,
}

/// Begins a call of an Erlang function. Raises `NotRegistered`, or if the arguments have no form in
/// Erlang.
#[pyfunction]
pub(super) fn start_call(
    py: Python<'_>,
    name: String,
    args: &Bound<'_, PyTuple>,
    kwargs: &Bound<'_, PyDict>,
    waker: &Bound<'_, PyLoopWaker>,
) -> PyResult<PendingCall> {
    let host = asyncio::host(py)?;
    check_registered(py, &*host, &name)?;
    let id = next_id(py)?;
    let waker = CallbackWaker {
        loop_waker: Arc::clone(&waker.get().0),
        callback: id,
    };
    let callback = Callback::new(id, Arc::new(waker));
    let (function, args) = with_keywords(&name, args, Some(kwargs))?;
    host.call(function, &args, &callback)?;
    Ok(PendingCall {
        name,
        host,
        callback,
        ended: AtomicBool::new(false),
    })
}

#[pymethods]
impl PendingCall {
    /// The id of the callback, by which the waker of the loop names this call.
    #[getter]
    fn number(&self) -> u64 {
        self.callback.id
    }

    /// Runs the jobs that are queued, and completes the future if there is an answer.
    fn deliver(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        while let Some(event) = self.callback.take() {
            let answer = match event {
                Event::Answer(answer) => answer,
                Event::Job(job) => {
                    match job.run(py) {
                        Ok(()) => {}
                        Err(Ended::Abandoned) => return Err(Interrupted::new_err(())),
                        Err(Ended::Crashed) => {
                            panic::resume_unwind(Box::new("a job within a task has panicked"));
                        }
                    }
                    continue;
                }
            };
            if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                continue;
            }
            let name = Function::Registered(&self.name);
            match answer.value(py, name, &*self.host) {
                Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
                Err(error) => {
                    future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?
                }
            };
        }
        Ok(())
    }

    /// Ends the call, once. Called when the coroutine has the answer or does not await it any more.
    fn end(&self, is_answered: bool) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            end(&*self.host, &self.callback, is_answered);
        }
    }
}

/// Ends the call of a coroutine that was interrupted before it awaited the answer, or that is never
/// resumed: such a coroutine does not call `end`.
impl Drop for PendingCall {
    fn drop(&mut self) {
        self.end(false);
    }
}
