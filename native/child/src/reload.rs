//! Modules that were loaded anew elsewhere. Called by the main thread, attached, at the beginning of a job.

use pyo3::prelude::*;
use std::sync::atomic::Ordering;

use py_codec::protocol::question;
use py_engine::host::Host;

use crate::host::ChildHost;
use crate::questions::into_exception;
use crate::values::value;

/// Loads the modules anew that other processes of the pool have loaded anew since the last job. What fails is
/// printed; an interrupt of the job ends the load, and the job does not run.
pub(crate) fn reload_modules(py: Python<'_>, host: &ChildHost, reloads: u64) {
    let last = host.child.reloads.swap(reloads, Ordering::SeqCst);
    if last == reloads {
        return;
    }
    let reload = || {
        let end = host.ask(question::RELOADED, &last.to_le_bytes())?;
        let names = value(py, host.child, end.term()?, &|| false).map_err(into_exception)?;
        let module = py.import("erlang")?;
        module.call_method1("_reload_loaded", (names,)).map(drop)
    };
    if let Err(error) = reload()
        && !host.must_stop()
    {
        error.write_unraisable(py, None);
    }
}
