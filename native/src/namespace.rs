//! The globals of a context, and its `__main__`. Runs on workers, attached.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};

/// What every namespace needs, found once: a lookup later would meet whatever code of a context
/// has left in `builtins.__import__`.
struct Fixtures {
    builtins: Py<PyModule>,
    /// The thread-local whose `module` is the `__main__` of a thread.
    current: Py<PyAny>,
    sys: Py<PyModule>,
}

static FIXTURES: PyOnceLock<Fixtures> = PyOnceLock::new();

fn fixtures(py: Python<'_>) -> PyResult<&Fixtures> {
    let missing = || PyRuntimeError::new_err("Python has not been set up");
    FIXTURES.get(py).ok_or_else(missing)
}

/// Makes `sys.modules['__main__']` show each thread its own namespace. Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let source = include_str!("main_module.py");
    let builtins = py.import("builtins")?;
    let compiled = builtins.call_method1(
        "compile",
        (source, "<erlang_python/main_module.py>", "exec", 0, true),
    )?;
    let module = PyModule::new(py, "erlang._main")?;
    module.dict().set_item("__builtins__", &builtins)?;
    evaluate(&compiled, &module.dict())?;
    module.call_method0("install")?;
    let fixtures = Fixtures {
        builtins: builtins.unbind(),
        current: module.getattr("_current")?.unbind(),
        sys: py.import("sys")?.unbind(),
    };
    // Python is started once: a second set would be the same.
    let _: Result<(), _> = FIXTURES.set(py, fixtures);
    Ok(())
}

/// Runs compiled code with `globals` as its globals and locals.
pub(crate) fn evaluate<'py>(
    code: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, code, globals) = (code.py(), code.as_ptr(), globals.as_ptr());
    // SAFETY: attached; `code` is what `compile` returned, `globals` is a dict, and the result
    // is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyEval_EvalCode(code, globals, globals)) }
}

/// A fresh module named `__main__`, and its dict.
pub(crate) struct Namespace<'py> {
    pub(crate) module: Bound<'py, PyModule>,
    pub(crate) globals: Bound<'py, PyDict>,
}

impl<'py> Namespace<'py> {
    /// The new `__main__` of the calling thread. Runs no Python code.
    pub(crate) fn enter(py: Python<'py>) -> PyResult<Self> {
        let fixtures = fixtures(py)?;
        let module = PyModule::new(py, "__main__")?;
        let globals = module.dict();
        globals.set_item(intern!(py, "__builtins__"), &fixtures.builtins)?;
        let current = fixtures.current.bind(py);
        current.setattr(intern!(py, "module"), &module)?;
        Ok(Self { module, globals })
    }

    /// Takes the namespace off the thread, and what else its code has left there. What the
    /// namespace holds lives on if something else refers to it: a function that Erlang got from
    /// an unbound call still finds its globals.
    pub(crate) fn leave(self) {
        let py = self.module.py();
        report(py, untrace(py));
        report(py, forget(py));
    }

    /// Empties the namespace, here and now and on its own thread, so that connections close and
    /// models are freed without waiting for a garbage collection.
    pub(crate) fn leave_empty(self) {
        let py = self.module.py();
        report(py, untrace(py));
        // The youngest first, so that a finalizer still finds what its object was made with. A
        // finalizer may add to the namespace: what it adds goes with the clear.
        for _ in 0..self.globals.len() {
            if self.globals.call_method0(intern!(py, "popitem")).is_err() {
                break;
            }
        }
        self.globals.clear();
        self.leave();
    }

    /// Runs `body` with `locals` visible as globals, and so in every nested scope. Afterwards
    /// they are gone; a name that `body` assigned anew keeps what it was given.
    pub(crate) fn with_locals<T, E: From<PyErr>>(
        &self,
        locals: &Bound<'py, PyDict>,
        body: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut shadowed = Vec::with_capacity(locals.len());
        for (name, value) in locals.iter() {
            let old = self.globals.get_item(&name)?;
            self.globals.set_item(&name, &value)?;
            shadowed.push((name, value, old));
        }
        let result = body();
        for (name, value, old) in shadowed {
            let now = self.globals.get_item(&name)?;
            if now.as_ref().is_some_and(|now| !now.is(&value)) {
                continue;
            }
            match old {
                Some(old) => self.globals.set_item(name, old)?,
                None if now.is_some() => self.globals.del_item(name)?,
                None => {}
            }
        }
        result
    }
}

/// Trace and profile functions belong to the thread, which serves others next.
fn untrace(py: Python<'_>) -> PyResult<()> {
    let sys = fixtures(py)?.sys.bind(py);
    let none = py.None();
    // Only if there is one: each call that sets it raises an audit event.
    if !sys.call_method0(intern!(py, "gettrace"))?.is_none() {
        sys.call_method1(intern!(py, "settrace"), (&none,))?;
    }
    if !sys.call_method0(intern!(py, "getprofile"))?.is_none() {
        sys.call_method1(intern!(py, "setprofile"), (&none,))?;
    }
    Ok(())
}

fn forget(py: Python<'_>) -> PyResult<()> {
    let current = fixtures(py)?.current.bind(py);
    current.setattr(intern!(py, "module"), py.None())
}

/// An error that no caller waits for goes where Python sends those of `__del__`.
fn report<T>(py: Python<'_>, result: PyResult<T>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}
