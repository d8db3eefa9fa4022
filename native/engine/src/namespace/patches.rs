//! Replaces functions of the standard library, for the whole interpreter: see `patches.py`. Called
//! once, by `start` on Python's main thread, attached, before any code of a program runs.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::child_threads;
use crate::interpreter::Interpreter;
use crate::interrupt;
use crate::python::code_cache::load;
use crate::python::{audit_hook, switch_interval, thread_state};

/// The greatest recursion limit that `sys.setrecursionlimit` sets: the stack of a worker has room for
/// it, through whatever C code the recursion goes.
pub const MAX_RECURSION: usize = 10_000;
/// Bytes of the stack of a thread that Python code starts: more than twice the need of
/// [`MAX_RECURSION`] calls through `sorted`, which takes most in the standard library, 2.5 KB a call
/// (CPython 3.11).
const THREAD_STACK_SIZE: usize = 64 << 20;

/// Replaces the functions.
pub(crate) fn install(py: Python<'_>, interpreter: &Interpreter) -> PyResult<()> {
    let module = load(py, "patches", include_str!("patches.py"))?;
    let note_interval = wrap_pyfunction!(switch_interval::note_interval, &module)?;
    module.call_method1("limit", (MAX_RECURSION, THREAD_STACK_SIZE, note_interval))?;
    py.import("_signal")?;
    if !interpreter.owns_process {
        module.call_method1("refuse_signals", (audit_hook::SIGNAL_REFUSED,))?;
    }
    let note_change = wrap_pyfunction!(thread_state::note_change, &module)?;
    let note_traced = wrap_pyfunction!(audit_hook::note_traced, &module)?;
    module.call_method1("watch_changes", (note_change, note_traced))?;
    // The thread-local whose `module` is the `__main__` of a thread.
    module.call_method1("end_audit_hooks", (&interpreter.main.current,))?;
    let mask = wrap_pyfunction!(interrupt::mask_interrupts, &module)?;
    let started = py.get_type::<child_threads::Started>();
    module.call_method1("watch_threads", (started, mask))?;
    Ok(())
}

/// Makes `spawn` the default start method of `multiprocessing`: the VM cannot be forked. Code may
/// still set another one. Called at the end of each load of a module, on any thread, attached, with
/// interrupts masked.
pub(crate) fn note_load(name: &Bound<'_, PyString>, loaded: &Bound<'_, PyAny>) {
    if name == "multiprocessing.context"
        && let Err(error) = spawn_by_default(loaded)
    {
        error.write_unraisable(name.py(), None);
    }
}

/// `context` is the module `multiprocessing.context`, or `None` if another thread has loaded it.
fn spawn_by_default(context: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = context.py();
    let Some(default) = context.getattr_opt(intern!(py, "_default_context"))? else {
        return Ok(());
    };
    let methods = context.getattr(intern!(py, "_concrete_contexts"))?;
    let spawn = methods.get_item(intern!(py, "spawn"))?;
    default.setattr(intern!(py, "_default_context"), spawn)
}
