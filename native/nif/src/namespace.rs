//! The globals of a context, and its `__main__`. Runs on workers, attached.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyType};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stdio::{self, Streams};
use crate::{coroutines, garbage, interrupt, tidy};

mod contents;

use contents::Contents;

/// What every namespace needs, found once: a lookup later would meet whatever code of a context
/// has left in `builtins.__import__`.
struct Fixtures {
    builtins: Py<PyModule>,
    /// The thread-local whose `module` is the `__main__` of a thread.
    current: Py<PyAny>,
    /// `sys.modules['__main__']`, and its class.
    entry: Py<PyAny>,
    entry_class: Py<PyType>,
    /// What a namespace has as its `__loader__`.
    loader: Py<PyAny>,
    /// Gives the entry its class again.
    reset_entry: Py<PyAny>,
    /// The dict of `sys`.
    sys: Py<PyDict>,
}

static FIXTURES: PyOnceLock<Fixtures> = PyOnceLock::new();

fn fixtures(py: Python<'_>) -> PyResult<&Fixtures> {
    let missing = || PyRuntimeError::new_err("Python has not been set up");
    FIXTURES.get(py).ok_or_else(missing)
}

/// Makes `sys.modules['__main__']` show each thread its own namespace. Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let main = load(py, "main_module", include_str!("main_module.py"))?;
    let entry = main.call_method0("install")?;
    let fixtures = Fixtures {
        entry_class: entry.get_type().unbind(),
        entry: entry.unbind(),
        loader: main.getattr("Loader")?.unbind(),
        reset_entry: main.getattr("reset")?.unbind(),
        builtins: py.import("builtins")?.unbind(),
        current: main.getattr("_current")?.unbind(),
        sys: py.import("sys")?.dict().unbind(),
    };
    // Python is started once: a second set would be the same.
    let _: Result<(), _> = FIXTURES.set(py, fixtures);
    Ok(())
}

/// One of the Python files of this library, as a module of its own.
pub(crate) fn load<'py>(
    py: Python<'py>,
    name: &str,
    source: &str,
) -> PyResult<Bound<'py, PyModule>> {
    let builtins = py.import("builtins")?;
    let file = format!("<erlang_python/{name}.py>");
    let code = builtins.call_method1("compile", (source, file, "exec", 0, true))?;
    let module = PyModule::new(py, &format!("erlang._{name}"))?;
    module.dict().set_item("__builtins__", &builtins)?;
    evaluate(&code, &module.dict())?;
    Ok(module)
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

/// The thread-local whose `module` is the `__main__` of a thread.
pub(crate) fn current(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    Ok(fixtures(py)?.current.bind(py))
}

/// The `__main__` of the calling thread: of the context that it serves, or whose code has started
/// it. Runs no code of a program.
pub(crate) fn main_of_thread(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let module = current(py)?.getattr_opt(intern!(py, "module"))?;
    Ok(module.filter(|module| !module.is_none()))
}

/// Called by a thread that Python has started, before its code runs.
pub(crate) fn set_main_of_thread(module: &Bound<'_, PyAny>) -> PyResult<()> {
    current(module.py())?.setattr(intern!(module.py(), "module"), module)
}

/// A fresh module named `__main__`, its dict, and what else a context has of its own.
pub(crate) struct Namespace<'py> {
    pub(crate) module: Bound<'py, PyModule>,
    pub(crate) globals: Bound<'py, PyDict>,
    id: u64,
    /// The `contextvars.Context` that its jobs run in.
    variables: Bound<'py, PyAny>,
    at_birth: Contents,
    /// See [`garbage::age`].
    age: usize,
    /// One of its jobs has put something into `sys`.
    has_streams: Cell<bool>,
}

impl<'py> Namespace<'py> {
    /// The new `__main__` of the calling thread. Runs no Python code of its own, but up to 3.11 a
    /// garbage collection may come up in it.
    pub(crate) fn enter(py: Python<'py>) -> PyResult<Rc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let fixtures = fixtures(py)?;
        let module = PyModule::new(py, "__main__")?;
        let globals = module.dict();
        globals.set_item(intern!(py, "__builtins__"), &fixtures.builtins)?;
        let loader = fixtures.loader.bind(py).call1((&globals,))?;
        globals.set_item(intern!(py, "__loader__"), loader)?;
        let current = fixtures.current.bind(py);
        current.setattr(intern!(py, "module"), &module)?;
        Ok(Rc::new(Self {
            at_birth: Contents::of(&module, &globals),
            module,
            globals,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            variables: tidy::enter_variables(py)?,
            age: garbage::age(py)?,
            has_streams: Cell::new(false),
        }))
    }

    /// For a thread that is no worker: that of the context whose code has started it, if that is
    /// known, or an empty one. It is not left: it belongs to the context.
    pub(crate) fn of_thread(py: Python<'py>) -> PyResult<Rc<Self>> {
        let module = match main_of_thread(py)? {
            Some(module) => module.cast_into::<PyModule>()?,
            None => PyModule::new(py, "__main__")?,
        };
        let globals = module.dict();
        Ok(Rc::new(Self {
            at_birth: Contents::of(&module, &globals),
            module,
            globals,
            id: 0,
            variables: py.None().into_bound(py),
            age: 0,
            has_streams: Cell::new(false),
        }))
    }

    /// Nothing that ran in it has left anything: it is as good as a new one, and a tenth of the
    /// price. Runs no Python code.
    pub(crate) fn is_new(&self) -> bool {
        let py = self.module.py();
        !self.has_streams.get()
            && self.module.is_exact_instance_of::<PyModule>()
            && has_own_entry(py)
            && self.at_birth == Contents::of(&self.module, &self.globals)
            && tidy::is_tidy(py, &self.variables)
    }

    /// Runs one job, and notes what it has done to the interpreter.
    pub(crate) fn run<T>(&self, job: impl FnOnce() -> T) -> T {
        let py = self.module.py();
        let streams = || Streams::now(fixtures(py)?.sys.bind(py));
        let before = streams();
        let done = job();
        if let (Ok(before), Ok(after)) = (before, streams())
            && after.note(&before, self.id)
        {
            self.has_streams.set(true);
        }
        done
    }

    /// Takes the namespace off the thread, and what else its code has left there; returns the names
    /// of the threads that still run. What Erlang holds of a call without a binding keeps its
    /// globals; if nothing refers to the namespace but what is in it, it goes now.
    pub(crate) fn leave(self: Rc<Self>) -> Vec<String> {
        let py = self.module.py();
        self.tidy();
        let age = self.age;
        self.take_off(py, || garbage::collect_young(py, age))
    }

    /// Empties the namespace, here and now and on its own thread, so that connections close and
    /// models are freed, and leaves it.
    pub(crate) fn leave_empty(self: Rc<Self>) -> Vec<String> {
        let py = self.module.py();
        self.tidy();
        // The youngest first, so that a finalizer still finds what its object was made with. A
        // finalizer may add to the namespace: what it adds goes with the clear.
        for _ in 0..self.globals.len() {
            match self.globals.call_method0(intern!(py, "popitem")) {
                Ok(item) => _ = report(py, tidy::close_generator(&item)),
                Err(_) => break,
            }
        }
        self.globals.clear();
        report(py, garbage::collect_young(py, self.age));
        self.take_off(py, || Ok(()))
    }

    /// What may run code of the context, which finds its namespace and its variables.
    fn tidy(&self) {
        let py = self.module.py();
        report(py, tidy::reset_thread(py));
        // What the code has raised for its own thread.
        interrupt::flush(py.into());
        report(py, tidy::close_loop(py));
        report(py, coroutines::forget(py));
    }

    fn take_off(
        self: Rc<Self>,
        py: Python<'py>,
        collect: impl FnOnce() -> PyResult<()>,
    ) -> Vec<String> {
        let left = report(py, tidy::left_running(py)).unwrap_or_default();
        let restore = || stdio::restore(fixtures(py)?.sys.bind(py), self.id);
        report(py, restore());
        report(py, forget(py));
        report(py, tidy::leave_variables(&self.variables));
        drop(self);
        report(py, collect());
        report(py, tidy::leave_thread(py));
        left
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

fn forget(py: Python<'_>) -> PyResult<()> {
    current(py)?.setattr(intern!(py, "module"), py.None())?;
    if !has_own_entry(py) {
        let fixtures = fixtures(py)?;
        fixtures.reset_entry.bind(py).call1((&fixtures.entry,))?;
    }
    Ok(())
}

/// The class of `sys.modules['__main__']` is the one that it has been given.
fn has_own_entry(py: Python<'_>) -> bool {
    let has = |fixtures: &Fixtures| fixtures.entry.bind(py).get_type().is(&fixtures.entry_class);
    fixtures(py).is_ok_and(has)
}

/// An error that no caller waits for goes where Python sends those of `__del__`.
fn report<T>(py: Python<'_>, result: PyResult<T>) -> Option<T> {
    result
        .inspect_err(|error| error.clone_ref(py).write_unraisable(py, None))
        .ok()
}
