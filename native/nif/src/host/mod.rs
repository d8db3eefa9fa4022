//! The engine's host in the BEAM: how a job runs on the calling thread, and the functions of Erlang
//! that its code calls.
//!
//! States of a thread: unknown, or known as a worker, the releaser or a guest ([`Current`]). Called
//! attached, on any thread that runs Python code; only `park`, `outgoing` and `output` block,
//! detached.

mod cancel;
mod current;
mod execute;
mod job_host;
mod messages;
mod monitor;
mod outgoing;
mod output;
mod run;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

use py_engine::host::callback::Ended;

use crate::job::Job;

pub(crate) use cancel::{cancel_unwanted, refuse_tasks};
pub(crate) use current::{Current, WorkerParts};
pub(crate) use job_host::JobHost;
pub(crate) use messages::{Destination, existing_atom};
pub(crate) use outgoing::Outgoing;
pub(crate) use output::{Written, write_or_drop};
pub(crate) use run::{Exit, clear_indicator};

/// Runs a job in the middle of the code that waits for a callback on the calling thread. `Err` if
/// the thread has to end.
fn nested(py: Python<'_>, job: &Arc<Job>) -> Result<(), Ended> {
    match Current::get().run_nested(py, job) {
        Ok(()) | Err(Exit::Closed) => Ok(()),
        Err(Exit::Abandoned) => Err(Ended::Abandoned),
        Err(Exit::Crashed) => Err(Ended::Crashed),
    }
}

fn not_running() -> PyErr {
    PyRuntimeError::new_err("the application erlang_python does not run")
}
