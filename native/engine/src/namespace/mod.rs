//! The namespace of a lease: its globals, its `__main__`, and the clean-up at its end.
//!
//! A namespace is new, entered by a worker; then used by jobs; and either left, so that the next lease
//! gets another, or still new after an unbound call, and used by the next one. Called on workers,
//! attached; blocks as long as code of the context runs in the clean-up.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::interpreter::{self, MainModule};
use crate::interrupt;
use crate::python::code_cache::load;
use crate::python::garbage;
use crate::python::output;
use crate::python::std_streams::{self, Streams};

use crate::task_list::TaskList;

use iterator_table::IteratorTable;

pub mod child_threads;
pub(crate) mod cleanup;
mod contents;
pub mod conversion;
pub(crate) mod iterator_table;
pub mod patches;

use contents::Contents;

/// Makes `sys.modules['__main__']` show each thread its own namespace. Called once, by `start`.
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

/// Returns the thread-local of `main_module.py` whose `module` is the `__main__` of a thread.
pub(crate) fn current(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    Ok(interpreter::find(py)?.main.current.bind(py))
}

/// Returns the `__main__` of the calling thread: that of the context that it serves, or whose code has
/// started it. Runs no code of a program.
pub(crate) fn main_of_thread(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let module = current(py)?.getattr_opt(intern!(py, "module"))?;
    Ok(module.filter(|module| !module.is_none()))
}

/// Sets the `__main__` of the calling thread, which Python has started, before its function runs.
pub(crate) fn set_main_of_thread(module: &Bound<'_, PyAny>) -> PyResult<()> {
    current(module.py())?.setattr(intern!(module.py(), "module"), module)
}

/// A module named `__main__`, its dict, and the other Python objects of a lease.
pub struct Namespace<'py> {
    pub module: Bound<'py, PyModule>,
    pub globals: Bound<'py, PyDict>,
    /// The asyncio tasks of jobs that have returned a coroutine, each with the host that ends its job.
    pub(crate) tasks: Arc<TaskList>,
    /// The iterators of the lease's streams.
    pub(crate) iterators: IteratorTable,
    /// The `contextvars.Context` that the jobs run in.
    variables: Bound<'py, PyAny>,
    /// The contents of the namespace when it was made.
    initial: Contents,
    /// The age of the collector at that time, see [`garbage::age`].
    age: usize,
    /// Set once a job has replaced `sys.stdout` or `sys.stderr`.
    has_streams: Cell<bool>,
}

impl<'py> Namespace<'py> {
    /// Returns a number that no other namespace has as long as this one lives.
    fn owner(&self) -> usize {
        self.module.as_ptr().addr()
    }

    /// Makes a namespace, which is the `__main__` of the calling worker from then on. Runs no code of
    /// a program but, COMPAT(3.11), in a garbage collection.
    ///
    /// # Errors
    /// Python has not been set up, or has no memory.
    pub fn enter(py: Python<'py>) -> PyResult<Rc<Self>> {
        let interpreter = interpreter::find(py)?;
        let main = &interpreter.main;
        let module = PyModule::new(py, "__main__")?;
        let globals = module.dict();
        globals.set_item(intern!(py, "__builtins__"), &interpreter.builtins)?;
        let loader = main.loader.bind(py).call1((&globals,))?;
        globals.set_item(intern!(py, "__loader__"), loader)?;
        // A thread of an ended lease may have registered some for a module that had this address.
        conversion::forget(module.as_ptr().addr());
        let current = main.current.bind(py);
        current.setattr(intern!(py, "module"), &module)?;
        let tasks = Arc::new(TaskList::default());
        if let Some(thread) = interrupt::Thread::current() {
            thread.set_tasks(&tasks);
        }
        Ok(Rc::new(Self {
            initial: Contents::of(&module, &globals),
            module,
            globals,
            tasks,
            iterators: IteratorTable::default(),
            variables: cleanup::enter_variables(py)?,
            age: garbage::age(py)?,
            has_streams: Cell::new(false),
        }))
    }

    /// Returns a namespace for a guest: over the `__main__` of the context whose code has started the
    /// thread, or over an empty module. Must not be left, since the module belongs to the context.
    ///
    /// # Errors
    /// Python has not been set up.
    pub fn of_thread(py: Python<'py>) -> PyResult<Rc<Self>> {
        let module = match main_of_thread(py)? {
            Some(module) => module.cast_into::<PyModule>()?,
            None => PyModule::new(py, "__main__")?,
        };
        let globals = module.dict();
        Ok(Rc::new(Self {
            initial: Contents::of(&module, &globals),
            module,
            globals,
            tasks: Arc::default(),
            iterators: IteratorTable::default(),
            variables: py.None().into_bound(py),
            age: 0,
            has_streams: Cell::new(false),
        }))
    }

    /// Whether no job has left a trace in the namespace or on the thread, so that the next unbound call
    /// can use it: an unbound eval takes 3.6 us then, and 5.1 us with a new namespace. Runs no Python
    /// code.
    pub fn is_new(&self) -> bool {
        let py = self.module.py();
        !self.has_streams.get()
            && !conversion::has_own(self.owner())
            && self.module.is_exact_instance_of::<PyModule>()
            && has_own_entry(py)
            && self.initial == Contents::of(&self.module, &self.globals)
            && cleanup::is_clean(py, &self.variables)
    }

    /// Runs one job, and records the standard streams that it has replaced.
    pub fn run<T>(&self, job: impl FnOnce() -> T) -> T {
        let py = self.module.py();
        let streams = || Streams::now(&interpreter::find(py)?.sys.bind(py).dict());
        let before = streams();
        interpreter::apply_settings(py);
        let done = job();
        output::flush(py);
        if let (Ok(before), Ok(after)) = (before, streams())
            && after.note(&before, self.owner()).unwrap_or(true)
        {
            self.has_streams.set(true);
        }
        done
    }

    /// Removes the namespace from the thread, and resets the thread. Returns the names of the child
    /// threads that still run. Called after an unbound call, whose globals stay alive as long as Erlang
    /// holds an object that refers to them; else a collection frees them here.
    pub fn leave(self: Rc<Self>) -> Vec<String> {
        let py = self.module.py();
        self.reset();
        let age = self.age;
        self.remove_from_thread(py, || garbage::collect_young(py, age))
    }

    /// Leaves the namespace after a job without a lease. A nested job that is suspended on another stack
    /// refers to the namespace; if the namespace refers to that stack, neither would ever be freed, so the
    /// namespace is emptied then.
    pub fn leave_unbound(self: Rc<Self>) -> Vec<String> {
        if Rc::strong_count(&self) > 1 {
            self.leave_empty()
        } else {
            self.leave()
        }
    }

    /// Empties the namespace on its own thread, so that connections close and models are freed at once,
    /// and leaves it like [`Namespace::leave`]. Called at the end of a context.
    pub fn leave_empty(self: Rc<Self>) -> Vec<String> {
        let py = self.module.py();
        self.reset();
        // The youngest entry first: a finalizer still finds the objects that were there before its
        // own. Entries that a finalizer adds are dropped by `clear`.
        for _ in 0..self.globals.len() {
            match self.globals.call_method0(intern!(py, "popitem")) {
                Ok(item) => _ = report(py, cleanup::close_generator(&item)),
                Err(_) => break,
            }
        }
        self.globals.clear();
        report(py, garbage::collect_young(py, self.age));
        self.remove_from_thread(py, || Ok(()))
    }

    /// The first part of the clean-up, in which code of the context may run: the namespace is still the
    /// `__main__` of the thread, and the context variables are still set.
    fn reset(&self) {
        let py = self.module.py();
        report(py, cleanup::reset_thread(py));
        // Code may have made an exception pending in its own thread, by `ctypes`.
        interrupt::flush(py.into());
        report(py, cleanup::close_loop(py));
        if let Some(interpreter) = interpreter::get() {
            for end in &interpreter.ends {
                report(py, end(py));
            }
        }
        drop(self.tasks.take());
        conversion::forget(self.owner());
    }

    /// The second part of the clean-up: removes the namespace from the thread and drops it.
    fn remove_from_thread(
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

    /// Runs `body` with `locals` as globals, and so visible in every nested scope. Restores the globals
    /// afterwards, but for names to which `body` has assigned.
    ///
    /// # Errors
    /// The error of `body`, or of an assignment.
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

/// Removes the `__main__` of the calling thread, and gives `sys.modules['__main__']` its class again if
/// code has assigned another.
fn forget(py: Python<'_>) -> PyResult<()> {
    current(py)?.setattr(intern!(py, "module"), py.None())?;
    if !has_own_entry(py) {
        let main = &interpreter::find(py)?.main;
        main.reset_entry.bind(py).call1((&main.entry,))?;
    }
    Ok(())
}

/// Whether the module that was put into `sys.modules['__main__']` still has its class.
fn has_own_entry(py: Python<'_>) -> bool {
    let has = |main: &MainModule| main.entry.bind(py).get_type().is(&main.entry_class);
    interpreter::find(py).is_ok_and(|interpreter| has(&interpreter.main))
}

/// Reports an error that no caller waits for to `sys.unraisablehook`, like an error of `__del__`.
fn report<T>(py: Python<'_>, result: PyResult<T>) -> Option<T> {
    result
        .inspect_err(|error| error.clone_ref(py).write_unraisable(py, None))
        .ok()
}
