//! Starts Python, and the threads that serve it, once in the life of the VM. Called by the NIF
//! `start_python` on a dirty scheduler, which it blocks until Python has started.

use std::{env, io};

use crate::host::JobHost;
use crate::vm::VM;
use crate::{gil, watch, worker};

/// Starts Python as `executable` would, with these variables of the environment, whose names
/// `py_options` has checked. A second call sets none and returns the result of the first: Python cannot
/// be started twice in one process.
pub(crate) fn start(executable: &str, variables: &[(&str, &str)]) -> Result<(), String> {
    let start = || {
        for (name, value) in variables {
            // SAFETY: the BEAM reads a copy of the environment that it made at its start. A `getenv` of
            // the C library in another thread, for the time zone, would have to hit this instant, as with
            // each assignment to `os.environ` later.
            unsafe { env::set_var(name, value) };
        }
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
