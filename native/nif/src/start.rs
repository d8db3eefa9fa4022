//! Starts Python, and the threads that serve it, once in the life of the VM. Called by the NIF
//! `start_python` on a dirty scheduler, which it blocks until Python has started.

use std::io;

use crate::host::JobHost;
use crate::vm::VM;
use crate::{gil, watch, worker};

/// Starts Python as `executable` would. A second call returns the result of the first: Python
/// cannot be started twice in one process.
pub(crate) fn start(executable: &str) -> Result<(), String> {
    let start = || {
        py_engine::start::start(executable, JobHost::new(None, None))?;
        start_threads().map_err(|error| error.to_string())
    };
    VM.started.get_or_init(start).clone()
}

/// Installs the exit handler and starts the threads. The handler comes before the threads, so that
/// no Python code runs without it.
fn start_threads() -> io::Result<()> {
    watch::install_exit_handler()?;
    gil::start()?;
    worker::start_watchdog()?;
    py_engine::interrupt::start_interrupter(watch::engine_threads)?;
    worker::spawn_releaser()
}
