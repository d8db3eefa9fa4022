//! `erlang.acall`: a call of an Erlang function that a coroutine awaits. The answer, and the jobs of
//! the process that answers, come through the waker of the loop; see `event_loop.py`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::call::{check_registered, end, next_id};
use crate::asyncio;
use crate::host::callback::{Callback, Ended, Event};
use crate::host::{Function, Host};
use crate::interrupt::Interrupted;
use crate::loop_waker::{CallbackWaker, PyLoopWaker};

/// A call under way.
#[pyclass(frozen, module = "erlang")]
pub(super) struct PendingCall {
    name: String,
    host: Arc<dyn Host>,
    callback: Arc<Callback>,
    ended: AtomicBool,
}

/// Begins a call of an Erlang function.
#[pyfunction]
pub(super) fn start_call(
    py: Python<'_>,
    name: String,
    args: &Bound<'_, PyTuple>,
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
    host.call(Function::Registered(&name), args, &callback)?;
    Ok(PendingCall {
        name,
        host,
        callback,
        ended: AtomicBool::new(false),
    })
}

#[pymethods]
impl PendingCall {
    /// The number by which the loop is woken for this call.
    #[getter]
    fn number(&self) -> u64 {
        self.callback.id
    }

    /// Runs the jobs that have come, and sets the result of the future if the answer has come.
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

    /// Ends the call: the coroutine does not await it any more.
    fn end(&self, is_answered: bool) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            end(&*self.host, &self.callback, is_answered);
        }
    }
}

/// A coroutine that is interrupted before it awaits, or that is never run again, ends nothing.
impl Drop for PendingCall {
    fn drop(&mut self) {
        self.end(false);
    }
}
