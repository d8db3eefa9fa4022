//! The Python module `erlang`: what Python code may ask of Erlang. Runs attached, on any thread that
//! runs Python code.

mod acall;
mod call;
mod messages;
mod outgoing;

use pyo3::exceptions::PyRuntimeError;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyModule};
use rustler::LocalPid;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::interrupt::Interrupted;
use crate::object::ErlangTerm;
use crate::{coroutines, namespace};

pub(crate) use outgoing::Outgoing;

/// Who serves Python code, and which functions it has. Locked for a look.
static SERVER: Mutex<Option<Server>> = Mutex::new(None);

struct Server {
    /// `py_callback`.
    pid: LocalPid,
    functions: HashSet<String>,
}

/// The exceptions of the module.
pub(crate) struct Classes {
    /// An Erlang function has failed.
    pub(crate) erlang_error: Py<PyAny>,
    /// A name is not known.
    pub(crate) not_registered: Py<PyAny>,
    /// Too many messages wait for a node.
    overloaded: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

/// Makes the module. Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    // PyO3 makes it when it first looks at an error. If that happens at the recursion limit, which a
    // callback may meet, the making fails, looks at an error itself, and waits for itself for ever.
    let _ = py.get_type::<PanicException>();
    let module = namespace::load(py, "erlang", include_str!("module.py"))?;
    module.setattr("__name__", "erlang")?;
    for name in ["ErlangError", "NotRegistered", "Overloaded", "Monitor"] {
        module.getattr(name)?.setattr("__module__", "erlang")?;
    }
    module.setattr("Term", py.get_type::<ErlangTerm>())?;
    module.setattr("Interrupted", py.get_type::<Interrupted>())?;
    module.setattr("_is_registered", wrap_pyfunction!(is_registered, &module)?)?;
    module.setattr("_registered", wrap_pyfunction!(registered, &module)?)?;
    module.setattr("_coroutines", wrap_pyfunction!(coroutines_module, &module)?)?;
    call::init(&module)?;
    messages::init(&module)?;
    let classes = Classes {
        erlang_error: module.getattr("ErlangError")?.unbind(),
        not_registered: module.getattr("NotRegistered")?.unbind(),
        overloaded: module.getattr("Overloaded")?.unbind(),
    };
    // Python is started once.
    let _: Result<(), _> = CLASSES.set(py, classes);
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("erlang", module)
}

/// For `coroutines.py`.
pub(crate) fn start_call_function<'py>(
    module: &Bound<'py, PyModule>,
) -> PyResult<Bound<'py, PyCFunction>> {
    wrap_pyfunction!(acall::start_call, module)
}

pub(crate) fn classes(py: Python<'_>) -> PyResult<&Classes> {
    let missing = || PyRuntimeError::new_err("Python has not been set up");
    CLASSES.get(py).ok_or_else(missing)
}

/// From here on `pid` serves Python code. Runs on a scheduler thread.
pub(crate) fn serve(pid: LocalPid, functions: HashSet<String>) {
    *server() = Some(Server { pid, functions });
}

/// One function more. Runs on a scheduler thread.
pub(crate) fn add(name: String) {
    if let Some(server) = &mut *server() {
        server.functions.insert(name);
    }
}

/// One function less. Runs on a scheduler thread.
pub(crate) fn remove(name: &str) {
    if let Some(server) = &mut *server() {
        server.functions.remove(name);
    }
}

fn server_pid() -> Option<LocalPid> {
    server().as_ref().map(|server| server.pid)
}

/// `coroutines.py`.
#[pyfunction]
#[pyo3(name = "_coroutines")]
fn coroutines_module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    coroutines::module(py).cloned()
}

#[pyfunction]
fn is_registered(name: &str) -> bool {
    server()
        .as_ref()
        .is_some_and(|server| server.functions.contains(name))
}

#[pyfunction]
fn registered() -> Vec<String> {
    let server = server();
    let functions = server.as_ref().map(|server| &server.functions);
    functions.into_iter().flatten().cloned().collect()
}

fn server() -> MutexGuard<'static, Option<Server>> {
    // Assigned as a whole, and each change of the set is one operation.
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_running() -> PyErr {
    PyRuntimeError::new_err("the application erlang_python does not run")
}
