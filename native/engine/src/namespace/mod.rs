//! The globals of a context, and its `__main__`. Runs on workers, attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::host::Host;
use crate::interpreter::{self, MainModule};
use crate::interrupt;
use crate::python::code_cache::load;
use crate::python::garbage;
use crate::python::std_streams::{self, Streams};

use iterator_table::IteratorTable;

pub mod child_threads;
pub(crate) mod cleanup;
mod contents;
pub(crate) mod iterator_table;
pub mod patches;

use contents::Contents;

/// Makes `sys.modules['__main__']` show each thread its own namespace. Called once.
pub(crate) fn install_main(py: Python<'_>) -> PyResult<MainModule> {
    let main = load(py, "main_module", include_str!("main_module.py"))?;
    let entry = main.call_method0("install")?;
    Ok(MainModule {
        entry_class: entry.get_type().unbind(),
        entry: entry.unbind(),
        loader: main.getattr("Loader")?.unbind(),
        reset_entry: main.getattr("reset")?.unbind(),
        current: main.getattr("_current")?.unbind(),
    })
}

/// The thread-local whose `module` is the `__main__` of a thread.
pub(crate) fn current(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    Ok(interpreter::find(py)?.main.current.bind(py))
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

/// An asyncio task, and the host of its job.
pub(crate) type Task = (Arc<dyn Host>, Py<PyAny>);

/// A fresh module named `__main__`, its dict, and what else a context has of its own.
pub struct Namespace<'py> {
    pub module: Bound<'py, PyModule>,
    pub globals: Bound<'py, PyDict>,
    /// The asyncio tasks of jobs that have returned a coroutine, and whose hosts wait for its end.
    pub(crate) tasks: RefCell<Vec<Task>>,
    /// The iterators of its streams.
    pub(crate) iterators: IteratorTable,
    /// The `contextvars.Context` that its jobs run in.
    variables: Bound<'py, PyAny>,
    at_birth: Contents,
    /// See [`garbage::age`].
    age: usize,
    /// One of its jobs has put something into `sys`.
    has_streams: Cell<bool>,
}

impl<'py> Namespace<'py> {
    /// Tells the namespaces of the program apart, while this one lives.
    fn owner(&self) -> usize {
        self.module.as_ptr().addr()
    }

    /// The new `__main__` of the calling thread. Runs no Python code of its own. COMPAT(3.11): a
    /// garbage collection may run in it.
    pub fn enter(py: Python<'py>) -> PyResult<Rc<Self>> {
        let interpreter = interpreter::find(py)?;
        let main = &interpreter.main;
        let module = PyModule::new(py, "__main__")?;
        let globals = module.dict();
        globals.set_item(intern!(py, "__builtins__"), &interpreter.builtins)?;
        let loader = main.loader.bind(py).call1((&globals,))?;
        globals.set_item(intern!(py, "__loader__"), loader)?;
        let current = main.current.bind(py);
        current.setattr(intern!(py, "module"), &module)?;
        Ok(Rc::new(Self {
            at_birth: Contents::of(&module, &globals),
            module,
            globals,
            tasks: RefCell::default(),
            iterators: IteratorTable::default(),
            variables: cleanup::enter_variables(py)?,
            age: garbage::age(py)?,
            has_streams: Cell::new(false),
        }))
    }

    /// For a thread that is no worker: that of the context whose code has started it, if that is
    /// known, or an empty one. It is not left: it belongs to the context.
    pub fn of_thread(py: Python<'py>) -> PyResult<Rc<Self>> {
        let module = match main_of_thread(py)? {
            Some(module) => module.cast_into::<PyModule>()?,
            None => PyModule::new(py, "__main__")?,
        };
        let globals = module.dict();
        Ok(Rc::new(Self {
            at_birth: Contents::of(&module, &globals),
            module,
            globals,
            tasks: RefCell::default(),
            iterators: IteratorTable::default(),
            variables: py.None().into_bound(py),
            age: 0,
            has_streams: Cell::new(false),
        }))
    }

    /// Nothing that ran in it has left anything: it is as good as a new one, and a tenth of the
    /// price. Runs no Python code.
    pub fn is_new(&self) -> bool {
        let py = self.module.py();
        !self.has_streams.get()
            && self.module.is_exact_instance_of::<PyModule>()
            && has_own_entry(py)
            && self.at_birth == Contents::of(&self.module, &self.globals)
            && cleanup::is_tidy(py, &self.variables)
    }

    /// Runs one job, and notes what it has done to the interpreter.
    pub fn run<T>(&self, job: impl FnOnce() -> T) -> T {
        let py = self.module.py();
        let streams = || Streams::now(&interpreter::find(py)?.sys.bind(py).dict());
        let before = streams();
        let done = job();
        if let (Ok(before), Ok(after)) = (before, streams())
            && after.note(&before, self.owner()).unwrap_or(true)
        {
            self.has_streams.set(true);
        }
        done
    }

    /// Takes the namespace off the thread, and what else its code has left there; returns the names
    /// of the threads that still run. What Erlang holds of a call without a binding keeps its
    /// globals; if nothing refers to the namespace but what is in it, it goes now.
    pub fn leave(self: Rc<Self>) -> Vec<String> {
        let py = self.module.py();
        self.tidy();
        let age = self.age;
        self.take_off(py, || garbage::collect_young(py, age))
    }

    /// Empties the namespace, here and now and on its own thread, so that connections close and
    /// models are freed, and leaves it.
    pub fn leave_empty(self: Rc<Self>) -> Vec<String> {
        let py = self.module.py();
        self.tidy();
        // The youngest first, so that a finalizer still finds what its object was made with. A
        // finalizer may add to the namespace: what it adds goes with the clear.
        for _ in 0..self.globals.len() {
            match self.globals.call_method0(intern!(py, "popitem")) {
                Ok(item) => _ = report(py, cleanup::close_generator(&item)),
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
        report(py, cleanup::reset_thread(py));
        // What the code has raised for its own thread.
        interrupt::flush(py.into());
        report(py, cleanup::close_loop(py));
        if let Some(interpreter) = interpreter::get() {
            for end in &interpreter.ends {
                report(py, end(py));
            }
        }
        drop(self.tasks.take());
    }

    fn take_off(
        self: Rc<Self>,
        py: Python<'py>,
        collect: impl FnOnce() -> PyResult<()>,
    ) -> Vec<String> {
        let left = report(py, cleanup::left_running(py)).unwrap_or_default();
        let restore =
            || std_streams::restore(&interpreter::find(py)?.sys.bind(py).dict(), self.owner());
        report(py, restore());
        report(py, forget(py));
        report(py, cleanup::leave_variables(&self.variables));
        drop(self);
        report(py, collect());
        report(py, cleanup::leave_thread(py));
        left
    }

    /// Runs `body` with `locals` visible as globals, and so in every nested scope. Afterwards
    /// they are gone; a name that `body` assigned anew keeps what it was given.
    pub fn with_locals<T, E: From<PyErr>>(
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
        let main = &interpreter::find(py)?.main;
        main.reset_entry.bind(py).call1((&main.entry,))?;
    }
    Ok(())
}

/// The class of `sys.modules['__main__']` is the one that it has been given.
fn has_own_entry(py: Python<'_>) -> bool {
    let has = |main: &MainModule| main.entry.bind(py).get_type().is(&main.entry_class);
    interpreter::find(py).is_ok_and(|interpreter| has(&interpreter.main))
}

/// An error that no caller waits for goes where Python sends those of `__del__`.
fn report<T>(py: Python<'_>, result: PyResult<T>) -> Option<T> {
    result
        .inspect_err(|error| error.clone_ref(py).write_unraisable(py, None))
        .ok()
}
