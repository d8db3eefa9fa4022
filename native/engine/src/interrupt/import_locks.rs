//! An import that has begun is not interrupted: half a module stays broken for every context, and
//! the locks of imports are shared by all. What loads modules in `importlib` runs with interrupts
//! masked, until the outermost load in its thread ends; a module that is loaded already is not
//! looked for there. Called on any thread, attached.
//!
//! The caller of `install` is told of the end of each load.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple};

use super::mask::InterruptMask;

/// The functions that take locks in `importlib._bootstrap`: the loads of `import` and `import_module`, the wait
/// for the load of another thread, and those of `importlib.reload` and of deprecated functions.
const LOADERS: [&str; 4] = ["_find_and_load", "_lock_unlock_module", "_exec", "_load"];

/// Called with the name of a module at the end of its load, also of a load that found it there.
pub(crate) type Loaded = fn(name: &Bound<'_, PyString>, module: &Bound<'_, PyAny>);

/// Masks interrupts in `importlib`. Runs once, before any code of a context.
pub(crate) fn install(py: Python<'_>, loaded: Loaded) -> PyResult<()> {
    let importlib: Bound<'_, PyModule> = py.import("_frozen_importlib")?;
    for name in LOADERS {
        // A later Python may lack one.
        if let Some(function) = importlib.getattr_opt(name)? {
            let function = function.unbind();
            importlib.setattr(name, Masked { function, loaded })?;
        }
    }
    Ok(())
}

/// A function that runs with interrupts masked.
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

    /// What else one asks of a function: its name, its code.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.function.bind(py).getattr(name)
    }
}
