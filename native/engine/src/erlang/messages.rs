//! Messages, names and monitors for Python code: `erlang.send`, `self`, `whereis`, `atom`, `monitor`.
//!
//! Called by Python code, on any thread, attached. Only `send` blocks, detached in the host, if too
//! many messages to another node wait.

use pyo3::prelude::*;
use pyo3::types::PyModule;

use crate::asyncio;

pub(super) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("send", wrap_pyfunction!(send, module)?)?;
    module.setattr("self", wrap_pyfunction!(caller, module)?)?;
    module.setattr("whereis", wrap_pyfunction!(whereis, module)?)?;
    module.setattr("atom", wrap_pyfunction!(atom, module)?)?;
    module.setattr("_watch", wrap_pyfunction!(watch, module)?)
}

/// Sends a message to a pid, a registered name, or a (name, node).
///
/// A dead process is no error; a local name that no process has raises NotRegistered. While 1,000
/// messages to another node wait, `send` waits for room, and raises Overloaded after a second.
#[pyfunction]
#[pyo3(signature = (dest, message, /))]
fn send(py: Python<'_>, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    asyncio::host(py)?.send(dest, message)
}

/// Returns the process that the running code works for.
#[pyfunction]
#[pyo3(name = "self")]
fn caller(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    asyncio::host(py)?.caller(py)
}

/// Returns the local process that is registered by this name, or None.
#[pyfunction]
#[pyo3(signature = (name, /))]
fn whereis<'py>(name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    asyncio::host(name.py())?.whereis(name)
}

/// Returns the atom of this name, which becomes an atom in Erlang, whereas text becomes a binary. Atoms
/// are never freed, so an atom that does not exist is made only if `create` is true.
#[pyfunction]
#[pyo3(signature = (name, /, *, create = false))]
fn atom<'py>(py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>> {
    asyncio::host(py)?.atom(py, name, create)
}

/// Monitors a process. Called by `Monitor` of `module.py`.
#[pyfunction]
fn watch<'py>(dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    asyncio::host(dest.py())?.watch(dest)
}
