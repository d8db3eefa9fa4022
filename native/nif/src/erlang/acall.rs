//! `erlang.acall`: a call of an Erlang function that a coroutine awaits. The answer, and the jobs of
//! the process that answers, come by the bell of the loop; see `coroutines.py`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::call::{Function, check_registered, close, submit, value};
use crate::bell::PyBell;
use crate::callback::{self, Callback, Mail};
use crate::interrupt::Interrupted;
use crate::station::{Exit, Station};
use crate::ticket::Ticket;
use crate::waker::Waker;

/// A call under way.
#[pyclass(frozen, module = "erlang")]
pub(crate) struct Pending {
    name: String,
    callback: Arc<Callback>,
    ticket: Arc<Ticket>,
    ended: AtomicBool,
}

/// Asks Erlang to run the function.
#[pyfunction]
pub(crate) fn start_call(
    py: Python<'_>,
    name: String,
    args: &Bound<'_, PyTuple>,
    bell: &Bound<'_, PyBell>,
) -> PyResult<Pending> {
    check_registered(py, &name)?;
    let job = Station::job(py);
    let ticket = job
        .as_ref()
        .map_or_else(Ticket::unlimited, |job| Arc::clone(&job.ticket));
    let id = callback::next_id();
    let waker = Waker::Bell(Arc::clone(&bell.get().0), id);
    let callback = Callback::with(id, job, Arc::clone(ticket.pending()), waker);
    let function = Function::Registered(&name);
    submit(&Station::here(), &callback, function, args, &ticket)?;
    Ok(Pending {
        name,
        callback,
        ticket,
        ended: AtomicBool::new(false),
    })
}

#[pymethods]
impl Pending {
    /// What the bell rings for.
    #[getter]
    fn number(&self) -> u64 {
        self.callback.id
    }

    /// Runs the jobs that have come, and gives the answer to the future if it has come.
    fn deliver(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        while let Some(mail) = self.callback.take() {
            let outcome = match mail {
                Mail::Outcome(outcome) => outcome,
                Mail::Job(job) => {
                    match Station::here().execute_within(py, &job) {
                        Ok(()) | Err(Exit::Closed) => {}
                        Err(Exit::Abandoned) => return Err(Interrupted::new_err(())),
                        Err(Exit::Crashed) => {
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
            match value(py, name, &outcome, &self.ticket) {
                Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
                Err(error) => {
                    future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?
                }
            };
        }
        Ok(())
    }

    /// Nobody awaits it any more.
    fn end(&self, is_answered: bool) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            close(&self.callback, is_answered);
        }
    }
}

/// A coroutine that is interrupted before it awaits, or that is never run again, ends nothing.
impl Drop for Pending {
    fn drop(&mut self) {
        self.end(false);
    }
}
