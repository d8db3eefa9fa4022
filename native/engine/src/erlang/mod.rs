//! The Python module `erlang`, by which Python code calls Erlang. Its functions run on any thread that
//! runs Python code, attached, and call the [`Host`](crate::host::Host) of the running code. Only
//! `call`, the wait of a monitor and `send` block, detached.

mod acall;
mod call;
mod converters;
pub mod logging;
mod messages;
pub mod output;

use py_codec::Term;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyModule;

use crate::interpreter::{self, ErlangClasses};
use crate::interrupt::Interrupted;
use crate::python::code_cache::load;
use crate::{asyncio, host::Host};

pub use call::{next_id, no_keywords, not_registered};

/// The classes that `module.py` defines for users, whose module is `erlang`.
const CLASSES: [&str; 6] = [
    "ErlangError",
    "NotRegistered",
    "NotAllowed",
    "StateFull",
    "Overloaded",
    "Monitor",
];

/// Makes the module and puts it into `sys.modules`. Called once, by `start`.
pub(crate) fn install(py: Python<'_>) -> PyResult<ErlangClasses> {
    // PyO3 makes this class when it first fetches an exception. At the recursion limit, which a
    // callback may reach, the class cannot be made: PyO3 fetches the exception of that, needs the
    // class for it, and waits for itself for ever.
    let _ = py.get_type::<PanicException>();
    let module = load(py, "erlang", include_str!("module.py"))?;
    module.setattr("__name__", "erlang")?;
    for name in CLASSES {
        module.getattr(name)?.setattr("__module__", "erlang")?;
    }
    module.setattr("Term", py.get_type::<Term>())?;
    module.setattr("Interrupted", py.get_type::<Interrupted>())?;
    module.setattr("_is_registered", wrap_pyfunction!(is_registered, &module)?)?;
    module.setattr("_registered", wrap_pyfunction!(registered, &module)?)?;
    module.setattr("_event_loop", wrap_pyfunction!(event_loop, &module)?)?;
    call::install(&module)?;
    messages::install(&module)?;
    converters::install(&module)?;
    let classes = ErlangClasses {
        erlang_error: module.getattr("ErlangError")?.unbind(),
        not_registered: module.getattr("NotRegistered")?.unbind(),
        overloaded: module.getattr("Overloaded")?.unbind(),
    };
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("erlang", module)?;
    Ok(classes)
}

/// Adds `_start_call` to the module of `event_loop.py`. Called once, when that is loaded.
pub(crate) fn complete_event_loop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("_start_call", wrap_pyfunction!(acall::start_call, module)?)
}

/// Makes an instance of `erlang.ErlangError`. `args`: `cls`, `reason`, `stacktrace`, and optionally the
/// `erlang.Term` of all three.
#[must_use]
pub fn erlang_error<'py>(py: Python<'py>, args: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    new_error(py, |classes| &classes.erlang_error, args)
}

/// Makes an instance of `erlang.Overloaded`.
#[must_use]
pub fn overloaded(py: Python<'_>, text: &str) -> PyErr {
    new_error(py, |classes| &classes.overloaded, (text,))
}

/// Makes an instance of an exception of the module; if that raises, returns the exception raised.
fn new_error<'py>(
    py: Python<'py>,
    class: impl FnOnce(&ErlangClasses) -> &Py<PyAny>,
    args: impl pyo3::call::PyCallArgs<'py>,
) -> PyErr {
    let made = || class(&interpreter::find(py)?.erlang).bind(py).call1(args);
    made().map_or_else(|error| error, PyErr::from_value)
}

/// Returns the module of `event_loop.py`, for `acall`.
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
