//! Masks interrupts while a module is loaded. An interrupted load would leave a broken module for
//! every context, and all contexts share the locks of imports.
//!
//! The functions of `importlib` that load modules are replaced by [`Masked`]: the mask lasts until the
//! outermost load of the thread ends. An import of a loaded module does not call them. Called by
//! Python code on any thread, attached; blocks as long as the load does.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple};

use super::mask::InterruptMask;

/// The functions of `importlib._bootstrap` that take locks: the load of `import` and `import_module`,
/// the wait for the load of another thread, the load of `importlib.reload` and of deprecated functions.
const LOADERS: [&str; 4] = ["_find_and_load", "_lock_unlock_module", "_exec", "_load"];

/// Called with a module and its name at the end of the load, also if another thread has loaded it.
pub(crate) type Loaded = fn(name: &Bound<'_, PyString>, module: &Bound<'_, PyAny>);

/// Replaces the functions. `loaded` is called at the end of each load. Called once, by `start`, before
/// any code of a context runs.
pub(crate) fn install(py: Python<'_>, loaded: Loaded) -> PyResult<()> {
    let importlib: Bound<'_, PyModule> = py.import("_frozen_importlib")?;
    for name in LOADERS {
        // A later Python may not have all of them.
        if let Some(function) = importlib.getattr_opt(name)? {
            let function = function.unbind();
            importlib.setattr(name, Masked { function, loaded })?;
        }
    }
    Ok(())
}

/// Calls a function of `importlib` with interrupts masked.
#[pyclass(frozen, module = "erlang")]
struct Masked {
    function: Py<PyAny>,
    loaded: Loaded,
}

#[pymethods]
impl Masked {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let _mask = InterruptMask::import(py);
        let loaded = self.function.bind(py).call(args, kwargs)?;
        if let Ok(name) = args.get_item(0)
            && let Ok(name) = name.cast::<PyString>()
        {
            (self.loaded)(name, &loaded);
        }
        Ok(loaded)
    }

    /// Returns an attribute of the function, as `__name__` or `__code__`.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.function.bind(py).getattr(name)
    }
}
