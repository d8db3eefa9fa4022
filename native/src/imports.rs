//! Imports that are interrupted leave no lock taken, and can be repeated. Python's import system has
//! a global lock and one for each module, all contexts share them, and an exception that comes up
//! between the taking of a lock and the `try` would leave it taken for good.
//!
//! The context managers of `importlib` are replaced by native ones: nothing can come up between the
//! end of a native `__enter__` and the body that its `__exit__` is for (so up to 3.13). Called on
//! any thread, attached.

use pyo3::exceptions::PyImportError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyTuple};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::interrupt::Interrupted;
use crate::slot::Slot;
use crate::station::Station;

struct Tools {
    acquire_lock: Py<PyAny>,
    release_lock: Py<PyAny>,
    get_module_lock: Py<PyAny>,
    lock_unlock_module: Py<PyAny>,
    module_from_spec: Py<PyAny>,
    /// `sys.modules`. To import `sys` would ask whatever is in the place of `__import__`.
    modules: Py<PyDict>,
}

static TOOLS: PyOnceLock<Tools> = PyOnceLock::new();

/// Replaces what there is to replace. Runs once, before any code of a context.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let importlib = py.import("_frozen_importlib")?;
    let imp = py.import("_imp")?;
    let replaced = ["_ImportLockContext", "_ModuleLockManager"];
    if !replaced
        .iter()
        .all(|name| importlib.hasattr(*name).unwrap_or(false))
    {
        // A later Python, which does it in another way.
        return Ok(());
    }
    let find = |module: &Bound<'_, PyModule>, name| module.getattr(name).map(Bound::unbind);
    let tools = Tools {
        acquire_lock: find(&imp, "acquire_lock")?,
        release_lock: find(&imp, "release_lock")?,
        get_module_lock: find(&importlib, "_get_module_lock")?,
        lock_unlock_module: find(&importlib, "_lock_unlock_module")?,
        module_from_spec: find(&importlib, "module_from_spec")?,
        modules: py.import("sys")?.getattr("modules")?.cast_into()?.unbind(),
    };
    // Python is started once.
    let _: Result<(), _> = TOOLS.set(py, tools);
    importlib.setattr(replaced[0], py.get_type::<ImportLock>())?;
    importlib.setattr(replaced[1], py.get_type::<ModuleLock>())?;
    let wait_for_module = wrap_pyfunction!(wait_for_module, &importlib)?;
    importlib.setattr("_lock_unlock_module", wait_for_module)?;
    let module_from_spec = wrap_pyfunction!(module_from_spec, &importlib)?;
    importlib.setattr("module_from_spec", module_from_spec)
}

fn call(py: Python<'_>, which: impl Fn(&Tools) -> &Py<PyAny>) -> PyResult<()> {
    match TOOLS.get(py) {
        Some(tools) => which(tools).call0(py).map(drop),
        None => Ok(()),
    }
}

/// `_ImportLockContext`: both functions are native, so nothing comes up in them.
#[pyclass(frozen, module = "erlang")]
struct ImportLock;

#[pymethods]
impl ImportLock {
    #[new]
    fn new() -> Self {
        Self
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        call(py, |tools| &tools.acquire_lock)
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        call(args.py(), |tools| &tools.release_lock)
    }
}

/// `_ModuleLockManager`: the locks of modules are Python code.
#[pyclass(frozen, module = "erlang")]
struct ModuleLock {
    name: Py<PyAny>,
    lock: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl ModuleLock {
    #[new]
    fn new(name: Py<PyAny>) -> Self {
        let lock = Mutex::default();
        Self { name, lock }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let _held = Held::new(py);
        let Some(tools) = TOOLS.get(py) else {
            return Ok(());
        };
        let lock = tools.get_module_lock.call1(py, (&self.name,))?;
        lock.call_method0(py, intern!(py, "acquire"))?;
        *self.lock() = Some(lock);
        Ok(())
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = args.py();
        let _held = Held::new(py);
        let taken = self.lock().take();
        let Some(lock) = taken else {
            return Ok(());
        };
        if let Ok(class) = args.get_item(0)
            && !class.is_none()
            && let Ok(name) = self.name.extract::<String>(py)
        {
            if let Some(waiters) = waited_for().get_mut(&name) {
                waiters.given_up = true;
            }
            if class.is(py.get_type::<Interrupted>()) {
                interrupted().insert(name);
            }
        }
        // The last reference is dropped in here, too: that runs code which takes the global lock.
        lock.call_method0(py, intern!(py, "release")).map(drop)
    }
}

impl ModuleLock {
    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        // Whole after each assignment, whatever panicked.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Modules whose import was interrupted.
static INTERRUPTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn interrupted() -> MutexGuard<'static, BTreeSet<String>> {
    // Whole after each operation, whatever panicked.
    INTERRUPTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `module_from_spec`: an empty module. The code of a package runs anew when its import is repeated,
/// but its modules that are there already are not imported again, and so would not be bound to it.
#[pyfunction]
fn module_from_spec<'py>(spec: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = spec.py();
    let tools = TOOLS
        .get(py)
        .ok_or_else(|| PyImportError::new_err("not set up"))?;
    let module = tools.module_from_spec.bind(py).call1((spec,))?;
    let name: String = spec.getattr(intern!(py, "name"))?.extract()?;
    if interrupted().remove(&name) {
        bind_parts(&module, tools.modules.bind(py), &format!("{name}."))?;
    }
    Ok(module)
}

fn bind_parts(
    package: &Bound<'_, PyAny>,
    modules: &Bound<'_, PyDict>,
    prefix: &str,
) -> PyResult<()> {
    for (name, module) in modules.copy()? {
        if let Ok(name) = name.extract::<&str>()
            && let Some(part) = name.strip_prefix(prefix)
            && !part.contains('.')
            && !module.is_none()
        {
            package.setattr(part, module)?;
        }
    }
    Ok(())
}

/// Those who wait until a module has been imported.
#[derive(Default)]
struct Waiters {
    count: usize,
    /// It has not, in the meantime: they have got hold of what is left of it.
    given_up: bool,
}

static WAITED_FOR: Mutex<BTreeMap<String, Waiters>> = Mutex::new(BTreeMap::new());

fn waited_for() -> MutexGuard<'static, BTreeMap<String, Waiters>> {
    // Whole after each operation, whatever panicked.
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among those who wait for a module.
struct Waiter(String);

impl Waiter {
    fn new(name: String) -> Self {
        waited_for().entry(name.clone()).or_default().count += 1;
        Self(name)
    }

    fn is_in_vain(&self) -> bool {
        waited_for().get(&self.0).is_some_and(|w| w.given_up)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waited_for = waited_for();
        if let Some(waiters) = waited_for.get_mut(&self.0) {
            waiters.count -= 1;
            if waiters.count == 0 {
                waited_for.remove(&self.0);
            }
        }
    }
}

/// `_lock_unlock_module`: waits until nobody is importing the module. Who has waited would get what
/// is left of one that was given up.
#[pyfunction]
fn wait_for_module(name: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = name.py();
    let _held = Held::new(py);
    let Some(tools) = TOOLS.get(py) else {
        return Ok(());
    };
    let waiter = Waiter::new(name.extract()?);
    tools.lock_unlock_module.call1(py, (name,))?;
    if waiter.is_in_vain() {
        let message = format!("another thread has given up importing {}", name.repr()?);
        return Err(PyImportError::new_err(message));
    }
    Ok(())
}

/// Meanwhile no interruption comes up in the calling thread.
pub(crate) struct Held<'py>(Python<'py>, Option<Arc<Slot>>);

impl<'py> Held<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        // Nobody interrupts a thread that has none.
        let slot = Station::existing().map(|station| Arc::clone(&station.slot));
        if let Some(slot) = &slot {
            slot.hold(py);
        }
        Self(py, slot)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(slot) = &self.1 {
            slot.release(self.0.into());
        }
    }
}
