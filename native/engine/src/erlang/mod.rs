//! The Python module `erlang`: what Python code may ask of Erlang. Runs attached, on any thread that
//! runs Python code; what is asked goes to the [`Host`](crate::host::Host) of the running code.

mod acall;
mod call;
mod messages;

use py_codec::Term;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyModule;

use crate::interpreter::{self, ErlangClasses};
use crate::interrupt::Interrupted;
use crate::python::code_cache::load;
use crate::{asyncio, host::Host};

pub use call::{next_id, not_registered};

/// Makes the module. Called once.
pub(crate) fn install(py: Python<'_>) -> PyResult<ErlangClasses> {
    // PyO3 makes this class when it first looks at an error. At the recursion limit, which a callback
    // may meet, the making fails, looks at an error itself, and waits for itself for ever.
    let _ = py.get_type::<PanicException>();
    let module = load(py, "erlang", include_str!("module.py"))?;
    module.setattr("__name__", "erlang")?;
    for name in ["ErlangError", "NotRegistered", "Overloaded", "Monitor"] {
        module.getattr(name)?.setattr("__module__", "erlang")?;
    }
    module.setattr("Term", py.get_type::<Term>())?;
    module.setattr("Interrupted", py.get_type::<Interrupted>())?;
    module.setattr("_is_registered", wrap_pyfunction!(is_registered, &module)?)?;
    module.setattr("_registered", wrap_pyfunction!(registered, &module)?)?;
    module.setattr("_event_loop", wrap_pyfunction!(event_loop, &module)?)?;
    call::install(&module)?;
    messages::install(&module)?;
    let classes = ErlangClasses {
        erlang_error: module.getattr("ErlangError")?.unbind(),
        not_registered: module.getattr("NotRegistered")?.unbind(),
        overloaded: module.getattr("Overloaded")?.unbind(),
    };
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("erlang", module)?;
    Ok(classes)
}

/// Gives `event_loop.py` what it needs of this module.
pub(crate) fn complete_event_loop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("_start_call", wrap_pyfunction!(acall::start_call, module)?)
}

/// An instance of `erlang.ErlangError`: `cls`, `reason`, `stacktrace`, and the whole of it as a term.
#[must_use]
pub fn erlang_error<'py>(py: Python<'py>, args: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    raised(py, |classes| &classes.erlang_error, args)
}

/// An instance of `erlang.Overloaded`.
#[must_use]
pub fn overloaded(py: Python<'_>, text: &str) -> PyErr {
    raised(py, |classes| &classes.overloaded, (text,))
}

fn raised<'py>(
    py: Python<'py>,
    class: impl FnOnce(&ErlangClasses) -> &Py<PyAny>,
    args: impl pyo3::call::PyCallArgs<'py>,
) -> PyErr {
    let made = || class(&interpreter::find(py)?.erlang).bind(py).call1(args);
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `event_loop.py`.
#[pyfunction]
#[pyo3(name = "_event_loop")]
fn event_loop(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    asyncio::module(py).cloned()
}

#[pyfunction]
fn is_registered(name: &str) -> bool {
    root().is_some_and(|host| host.is_registered(name))
}

#[pyfunction]
fn registered() -> Vec<String> {
    root().map_or_else(Vec::new, Host::registered)
}

fn root() -> Option<&'static dyn Host> {
    interpreter::get().map(|interpreter| &*interpreter.host)
}
