//! A worker in a child process of the VM: the extension module `py_child`, which the Python of the child
//! imports, and whose one function serves the VM until the child ends.
//!
//! # Layout
//!
//! A module uses only those above it in this list.
//!
//! - `settings`: what the pool says of its children.
//! - [`connection`]: the two sockets to the VM.
//! - [`payload`]: the payload of a frame of the VM.
//! - [`timer`]: a timer that a thread polls.
//! - [`jobs`]: the jobs that the child has, and which of them must stop.
//! - [`child`]: the state that a child has once: [`child::Child`].
//! - [`values`]: values and exceptions in frames.
//! - [`questions`]: calls of Erlang, as the frames of their ends see them.
//! - [`receive`]: frames of the VM, and what becomes of those in the middle of a job.
//! - [`host`]: the engine's host.
//! - [`messages`], `output`: messages, names of processes, atoms and monitors; what code writes and logs.
//! - `reload`: modules that were loaded anew elsewhere.
//! - [`incoming`]: a job as it comes, and frames as they go.
//! - [`execute`]: runs the request of a job.
//! - `inspect`: the stacks of the code, and profiles of it.
//! - [`control`]: the thread that reads `control`, without Python.
//! - `sandbox`: what the code may read, write, execute and reach.
//! - [`serve`]: the loop of the main thread.
//!
//! # Threads
//!
//! The main thread serves: it reads `data`, runs jobs, and is attached but when it waits. The control
//! thread never attaches: it interrupts, ends the process when the VM has gone, and answers calls of
//! other threads of Python code. The engine's interrupter raises the exceptions, its inspector looks at the
//! stacks and sends them.

mod child;
mod connection;
mod control;
mod execute;
mod host;
mod incoming;
mod inspect;
mod jobs;
mod messages;
mod output;
mod payload;
mod questions;
mod receive;
mod reload;
mod sandbox;
mod serve;
mod settings;
mod timer;
mod values;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::io::{self, Write};
use std::panic;

use py_codec::frame::FrameWriter;
use py_codec::protocol::from_child;

/// Serves the VM that listens at the abstract Unix address `address`. `sandbox` is a dict, or None; `own`
/// lists what Python itself reads in a sandbox. `settings` come from the pool. `prepare` is called before
/// the first job, and returns a text if the child cannot serve. Does not return.
#[pyfunction]
fn run(
    py: Python<'_>,
    address: &str,
    sandbox: Option<sandbox::Sandbox>,
    own: Vec<String>,
    settings: settings::Settings,
    prepare: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // The default hook holds a lock while it prints, and waits for itself if the memory ends meanwhile: see
    // `default_alloc_error_hook` of the standard library.
    panic::set_hook(Box::new(|panic| {
        let _: io::Result<()> = writeln!(io::stderr(), "{panic}");
    }));
    let connection = connection::Connection::open(address)?;
    if let Some(sandbox) = sandbox {
        // Sent before the sockets close, by which the VM takes the child for lost.
        sandbox.apply(&own).map_err(|error| {
            let mut frame = FrameWriter::new(from_child::FAILED);
            frame.rest(error.to_string().as_bytes());
            match connection.send(&frame.finish()) {
                Ok(()) => PyOSError::new_err(error.to_string()),
                Err(error) => error.into(),
            }
        })?;
    }
    serve::run(py, connection, &settings, prepare)
}

/// Returns the object of a term in the external term format: the configuration of the child.
#[pyfunction]
fn decode<'py>(py: Python<'py>, term: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py_codec::etf::decode(py, term, &|| false)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pymodule]
fn py_child(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(run, module)?)
}
