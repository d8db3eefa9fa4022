//! What is looked up in the interpreter once, when Python has started, before any code of a program
//! can put something else in its place.
//!
//! Filled by [`crate::start`], read on every thread that runs Python. The types are those of PyO3
//! only: the modules that use them know what each one is for.

use once_cell::sync::OnceCell;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyType};
use std::collections::HashMap;
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use crate::code_table::CodeTable;
use crate::host::Host;
use crate::notify::Notify;

static INTERPRETER: OnceCell<Interpreter> = OnceCell::new();

pub(crate) struct Interpreter {
    /// For code that belongs to no job.
    pub(crate) host: Arc<dyn Host>,
    pub(crate) builtins: Py<PyModule>,
    pub(crate) sys: Py<PyModule>,
    /// `sys.modules`.
    pub(crate) modules: Py<PyDict>,
    /// `collect`, `get_count` and `isenabled` of `gc`, in a module that no code replaces.
    pub(crate) gc: Py<PyModule>,
    /// `threading._active`: the `Thread` objects by the identities of their threads.
    pub(crate) active_threads: Py<PyDict>,
    pub(crate) compiler: Compiler,
    /// Locked for an operation, by a thread that has the GIL and keeps it meanwhile: so no thread ever
    /// waits for this lock.
    pub(crate) code_table: Mutex<CodeTable>,
    /// Replacements of standard streams that are in force, oldest first; see `python/std_streams.rs`.
    pub(crate) stream_changes: Mutex<Vec<StreamChange>>,
    pub(crate) getters: Getters,
    pub(crate) types: Types,
    pub(crate) main: MainModule,
    pub(crate) erlang: ErlangClasses,
    pub(crate) interrupts: Interrupts,
    /// Called at the end of each namespace, after its thread was reset.
    pub(crate) ends: Vec<fn(Python<'_>) -> PyResult<()>>,
    /// `cleanup.py`.
    pub(crate) cleanup: Py<PyModule>,
    /// `event_loop.py`, which imports `asyncio`: loaded when there is a first coroutine.
    pub(crate) event_loop: PyOnceLock<Py<PyModule>>,
    /// A thread loads `event_loop.py`, and so imports `asyncio`.
    pub(crate) is_loading_event_loop: AtomicBool,
    /// Gives `event_loop.py` what lies above `asyncio` in this crate.
    pub(crate) complete_event_loop: fn(&Bound<'_, PyModule>) -> PyResult<()>,
    /// The number of the next call of Erlang, see [`Callback::id`](crate::host::callback::Callback).
    pub(crate) next_call: AtomicU64,
    pub(crate) switch_interval: SwitchInterval,
    pub(crate) audit: Audit,
}

/// What makes code objects.
pub(crate) struct Compiler {
    pub(crate) compile: Py<PyAny>,
    /// `compile_closure` of `closure.py`.
    pub(crate) compile_closure: Py<PyAny>,
    /// `types.FunctionType`.
    pub(crate) function: Py<PyAny>,
}

/// One context has put something else into `sys.stdout` or `sys.stderr`.
pub(crate) struct StreamChange {
    /// The namespace whose code did.
    pub(crate) owner: usize,
    /// The index of the stream.
    pub(crate) stream: usize,
    pub(crate) found: Py<PyAny>,
    pub(crate) put: Py<PyAny>,
}

/// `__get__` of the descriptors of built-in classes.
pub(crate) struct Getters {
    pub(crate) mro: Py<PyAny>,
    pub(crate) qualname: Py<PyAny>,
    pub(crate) module: Py<PyAny>,
    pub(crate) attributes: Py<PyAny>,
    pub(crate) suppress_context: Py<PyAny>,
    /// Of `BaseExceptionGroup`.
    pub(crate) exceptions: Py<PyAny>,
    /// Of the fields of a `SyntaxError`.
    pub(crate) syntax: Vec<Py<PyAny>>,
}

pub(crate) struct Types {
    /// `types.GeneratorType`, `CoroutineType`, `AsyncGeneratorType`.
    pub(crate) generator: Py<PyAny>,
    pub(crate) coroutine: Py<PyAny>,
    pub(crate) async_generator: Py<PyAny>,
    /// Index of each built-in exception class in `exception_class::NAMES`, by its address.
    pub(crate) exceptions: HashMap<usize, usize>,
}

/// What `sys.modules['__main__']` needs, see `main_module.py`.
pub(crate) struct MainModule {
    /// The thread-local whose `module` is the `__main__` of a thread.
    pub(crate) current: Py<PyAny>,
    /// `sys.modules['__main__']`, and its class.
    pub(crate) entry: Py<PyAny>,
    pub(crate) entry_class: Py<PyType>,
    /// The class of the `__loader__` of a namespace.
    pub(crate) loader: Py<PyAny>,
    /// Gives the entry its class again.
    pub(crate) reset_entry: Py<PyAny>,
}

/// The exceptions of the module `erlang`.
pub(crate) struct ErlangClasses {
    pub(crate) erlang_error: Py<PyAny>,
    pub(crate) not_registered: Py<PyAny>,
    pub(crate) overloaded: Py<PyAny>,
}

pub(crate) struct Interrupts {
    /// `Interrupted`.
    pub(crate) class: Py<PyAny>,
    /// A loop in which a pending exception is raised, and its globals.
    pub(crate) code: Py<PyAny>,
    pub(crate) globals: Py<PyDict>,
    /// COMPAT(3.12): one flag of the interpreter says that an exception is pending in some thread.
    pub(crate) has_one_flag: bool,
    /// Wakes the interrupter.
    pub(crate) notify: Notify,
}

/// COMPAT(3.11): see `python/switch_interval.rs`.
pub(crate) struct SwitchInterval {
    /// `_PyEval_SetSwitchInterval`, which writes a word and needs no GIL.
    pub(crate) set: Option<unsafe extern "C" fn(c_ulong)>,
    /// What `sys.setswitchinterval` was last given, in microseconds.
    pub(crate) chosen: AtomicU64,
}

/// What the audit hook has seen.
#[derive(Default)]
pub(crate) struct Audit {
    /// How often a thread has set a trace or profile function for all threads.
    pub(crate) traced_all: AtomicU64,
    /// A module was imported by which Python code calls C functions, and so may raise an exception in
    /// any thread.
    pub(crate) may_raise: AtomicBool,
}

/// Runs once, on Python's main thread.
pub(crate) fn set(interpreter: Interpreter) {
    // Python is started once.
    let _: Result<(), _> = INTERPRETER.set(interpreter);
}

/// `None` until Python has started.
pub(crate) fn get() -> Option<&'static Interpreter> {
    INTERPRETER.get()
}

/// As [`get`], for a caller that can fail.
pub(crate) fn find(_: Python<'_>) -> PyResult<&'static Interpreter> {
    get().ok_or_else(|| PyRuntimeError::new_err("Python has not been set up"))
}
