//! The globals of a context, and its `__main__`. Runs on workers, attached.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};

static MAIN_MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Makes `sys.modules['__main__']` show each thread its own namespace. Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let source = include_str!("main_module.py");
    let module = PyModule::new(py, "erlang._main")?;
    let compiled = py.import("builtins")?.call_method1(
        "compile",
        (source, "<erlang_python/main_module.py>", "exec", 0, true),
    )?;
    evaluate(&compiled, &with_builtins(&module)?)?;
    module.call_method0("install")?;
    // Python is started once: a second module would be the same.
    let _: Result<(), _> = MAIN_MODULE.set(py, module.unbind());
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
    /// The new `__main__` of the calling thread.
    pub(crate) fn enter(py: Python<'py>) -> PyResult<Self> {
        let module = PyModule::new(py, "__main__")?;
        let globals = with_builtins(&module)?;
        if let Some(main) = MAIN_MODULE.get(py) {
            main.bind(py)
                .call_method1(intern!(py, "enter"), (&module,))?;
        }
        Ok(Self { module, globals })
    }

    /// Takes the namespace off the thread. What it holds lives on if something else refers to
    /// it: a function that Erlang got from an unbound call still finds its globals.
    pub(crate) fn leave(self) {
        let py = self.module.py();
        if let Some(main) = MAIN_MODULE.get(py) {
            report(py, main.bind(py).call_method0(intern!(py, "leave")));
        }
    }

    /// Empties the namespace, here and now and on its own thread, so that connections close and
    /// models are freed without waiting for a garbage collection.
    pub(crate) fn leave_empty(self) {
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
            match self.globals.get_item(&name)? {
                Some(now) if now.is(&value) => match old {
                    Some(old) => self.globals.set_item(name, old)?,
                    None => self.globals.del_item(name)?,
                },
                _ => {}
            }
        }
        result
    }
}

fn with_builtins<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyDict>> {
    let py = module.py();
    let globals = module.dict();
    globals.set_item(
        intern!(py, "__builtins__"),
        py.import(intern!(py, "builtins"))?,
    )?;
    Ok(globals)
}

/// An error that no caller waits for goes where Python sends those of `__del__`.
fn report<T>(py: Python<'_>, result: PyResult<T>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}
