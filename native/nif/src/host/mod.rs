//! The engine's host in the BEAM: how a job runs on the calling thread, and what its code may ask of
//! Erlang. Called attached, on any thread that runs Python code.

mod current;
mod execute;
mod job_host;
mod messages;
mod outgoing;
mod run;
mod server;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

use py_engine::host::callback::Ended;

use crate::job::Job;

pub(crate) use current::{Current, WorkerParts};
pub(crate) use job_host::{JobHost, cancel_unwanted, refuse_tasks};
pub(crate) use outgoing::Outgoing;
pub(crate) use run::{Exit, clear_indicator};
pub(crate) use server::{add_function, remove_function, serve};

/// Runs a job in the middle of what the calling thread does.
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
