//! The objects that are looked up in the interpreter once, when Python has started, before any code
//! of a program can replace them; and the state that the interpreter has once.
//!
//! Set by [`crate::start`] on Python's main thread, read on every thread that runs Python. The modules
//! above this one document the use of each field.

use once_cell::sync::OnceCell;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyString, PyType};
use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::code_table::CodeTable;
use crate::host::Host;
use crate::notify::Notify;

static INTERPRETER: OnceCell<Interpreter> = OnceCell::new();

/// The engine's data of the one interpreter.
pub(crate) struct Interpreter {
    /// The host of code that belongs to no job.
    pub(crate) host: Arc<dyn Host>,
    /// The process is there for this Python alone: its code may signal the process.
    pub(crate) owns_process: bool,
    pub(crate) builtins: Py<PyModule>,
    pub(crate) sys: Py<PyModule>,
    /// `sys.modules`.
    pub(crate) modules: Py<PyDict>,
    /// `collect`, `get_count` and `isenabled` of `gc`, in a module that code of a program cannot
    /// reach.
    pub(crate) gc: Py<PyModule>,
    /// `threading._active`: the `Thread` objects by the identities of their threads.
    pub(crate) active_threads: Py<PyDict>,
    pub(crate) compiler: Compiler,
    /// Compiled code. Locked for one operation, by a thread that has the GIL and keeps it meanwhile,
    /// so no thread ever waits for this lock.
    pub(crate) code_table: Mutex<CodeTable>,
    /// Replacements of standard streams that are in force, oldest first; see `python/std_streams.rs`.
    /// Locked for one operation, attached; no object is dropped under the lock.
    pub(crate) stream_changes: Mutex<Vec<StreamChange>>,
    pub(crate) getters: Getters,
    pub(crate) types: Types,
    pub(crate) main: MainModule,
    pub(crate) erlang: ErlangClasses,
    pub(crate) interrupts: Interrupts,
    /// Functions that a worker calls, attached, at the end of each namespace, after it has reset its
    /// thread.
    pub(crate) ends: Vec<fn(Python<'_>) -> PyResult<()>>,
    /// The module of `cleanup.py`.
    pub(crate) cleanup: Py<PyModule>,
    /// The module of `event_loop.py`, which imports `asyncio`: loaded for the first coroutine, or when
    /// code has imported `asyncio`.
    pub(crate) event_loop: PyOnceLock<Py<PyModule>>,
    /// Set once a thread has begun to load `event_loop.py`, and so to import `asyncio`.
    pub(crate) is_loading_event_loop: AtomicBool,
    /// Adds the functions to `event_loop.py` that modules above `asyncio` define.
    pub(crate) complete_event_loop: fn(&Bound<'_, PyModule>) -> PyResult<()>,
    /// The id of the next call of Erlang, see [`Callback::id`](crate::host::callback::Callback).
    pub(crate) next_call: AtomicU64,
    pub(crate) switch_interval: SwitchInterval,
    /// `sys._current_frames`.
    pub(crate) current_frames: Py<PyAny>,
    pub(crate) frame_fields: FrameFields,
    /// The way to the inspector, see `inspect.rs`, once there has been a request.
    pub(crate) inspector: OnceCell<Box<dyn Any + Send + Sync>>,
    pub(crate) audit: Audit,
    /// Standard output and error go to the descriptors of the process, not to the host.
    pub(crate) inherits_output: AtomicBool,
    /// Returns the host of the output of a thread that the running code starts: of a module below this.
    pub(crate) host_of_new_thread: fn(Python<'_>) -> Option<Arc<dyn Host>>,
    pub(crate) converters: Converters,
    pub(crate) logging: Logging,
}

/// The names of the fields of frames, code objects, coroutines and generators, see `inspect/stack.rs`.
pub(crate) struct FrameFields {
    pub(crate) back: Py<PyString>,
    pub(crate) code: Py<PyString>,
    pub(crate) line: Py<PyString>,
    pub(crate) file: Py<PyString>,
    pub(crate) function: Py<PyString>,
    /// The frame of a coroutine or a generator, and what it awaits.
    pub(crate) coroutine: [Py<PyString>; 2],
    pub(crate) generator: [Py<PyString>; 2],
}

/// The functions of Python that make code objects, and functions of them.
pub(crate) struct Compiler {
    pub(crate) compile: Py<PyAny>,
    /// `compile_block` of `block.py`.
    pub(crate) compile_block: Py<PyAny>,
    /// `compile_closure` of `closure.py`.
    pub(crate) compile_closure: Py<PyAny>,
    /// `types.FunctionType`.
    pub(crate) function: Py<PyAny>,
}

/// A replacement of `sys.stdout` or `sys.stderr` by the code of a context.
pub(crate) struct StreamChange {
    /// The namespace of the context, see `Namespace::owner`.
    pub(crate) owner: usize,
    /// 0 for `sys.stdout`, 1 for `sys.stderr`.
    pub(crate) stream: usize,
    /// The object before the replacement, and the one after it.
    pub(crate) found: Py<PyAny>,
    pub(crate) put: Py<PyAny>,
}

/// The methods `__get__` of descriptors of built-in classes, see `python/fields.rs`.
pub(crate) struct Getters {
    pub(crate) mro: Py<PyAny>,
    pub(crate) qualname: Py<PyAny>,
    pub(crate) module: Py<PyAny>,
    pub(crate) attributes: Py<PyAny>,
    pub(crate) suppress_context: Py<PyAny>,
    /// `BaseExceptionGroup.exceptions`.
    pub(crate) exceptions: Py<PyAny>,
    /// `NameError.name`.
    pub(crate) unknown_name: Py<PyAny>,
    /// The fields of `SyntaxError`, in the order of `fields::SYNTAX`.
    pub(crate) syntax: Vec<Py<PyAny>>,
}

/// Classes by which objects are recognized.
pub(crate) struct Types {
    /// `types.GeneratorType`, `types.CoroutineType`, `types.AsyncGeneratorType`.
    pub(crate) generator: Py<PyAny>,
    pub(crate) coroutine: Py<PyAny>,
    pub(crate) async_generator: Py<PyAny>,
    /// The index of each built-in exception class in `exception_class::NAMES`, by the address of the
    /// class.
    pub(crate) exceptions: HashMap<usize, usize>,
}

/// The objects of `main_module.py`.
pub(crate) struct MainModule {
    /// The thread-local whose `module` is the `__main__` of a thread.
    pub(crate) current: Py<PyAny>,
    /// `sys.modules['__main__']`, and its class.
    pub(crate) entry: Py<PyAny>,
    pub(crate) entry_class: Py<PyType>,
    /// `Loader`: the class of the `__loader__` of a namespace.
    pub(crate) loader: Py<PyAny>,
    /// `reset`: gives the entry its class again.
    pub(crate) reset_entry: Py<PyAny>,
}

/// The exceptions of the module `erlang`.
pub(crate) struct ErlangClasses {
    pub(crate) erlang_error: Py<PyAny>,
    pub(crate) not_registered: Py<PyAny>,
    pub(crate) overloaded: Py<PyAny>,
}

/// The objects by which an exception is raised in a thread, see `interrupt/raise.rs`.
pub(crate) struct Interrupts {
    /// `erlang.Interrupted`.
    pub(crate) class: Py<PyAny>,
    /// The code of a short loop, in which Python raises a pending exception, and its globals.
    pub(crate) code: Py<PyAny>,
    pub(crate) globals: Py<PyDict>,
    /// COMPAT(3.12): whether the interpreter has one flag for exceptions that are pending in any
    /// thread.
    pub(crate) has_one_flag: bool,
    /// Notified when the interrupter has to look at its threads.
    pub(crate) notify: Notify,
}

/// See `python/switch_interval.rs`.
pub(crate) struct SwitchInterval {
    /// COMPAT(3.11): `_PyEval_SetSwitchInterval`, which writes a word and needs no GIL.
    pub(crate) set: Option<unsafe extern "C" fn(c_ulong)>,
    /// The function `sys.setswitchinterval` of Python.
    pub(crate) set_attached: Py<PyAny>,
    /// The last argument of `sys.setswitchinterval`, in microseconds.
    pub(crate) chosen: AtomicU64,
    /// COMPAT(3.12): the interval is to be short, since a thread waits for the GIL to look at the code.
    pub(crate) is_wanted: AtomicBool,
    /// COMPAT(3.12): the interval is to stay short.
    pub(crate) is_kept: AtomicBool,
    /// COMPAT(3.12): the interval is short. Written attached.
    pub(crate) is_short: AtomicBool,
}

/// How values are converted, see `namespace/conversion.rs`.
pub(crate) struct Converters {
    /// Set once code has registered a converter.
    pub(crate) is_used: AtomicBool,
    /// A preload runs.
    pub(crate) is_preload: AtomicBool,
    /// The encoders and decoders of the pool.
    pub(crate) of_pool: [Py<PyDict>; 2],
    /// Those of a namespace, by its `owner`.
    pub(crate) by_namespace: Mutex<HashMap<usize, [Py<PyDict>; 2]>>,
    /// The atom that `None` becomes, a `NoneAtom`.
    pub(crate) none: AtomicU8,
}

/// How Python's `logging` is configured, see `erlang/logging.rs`.
pub(crate) struct Logging {
    pub(crate) wanted: AtomicU32,
    pub(crate) applied: AtomicU32,
    /// The module of `logging.py`, which imports `logging`: loaded for the first configuration.
    pub(crate) module: PyOnceLock<Py<PyModule>>,
    /// Applies what is wanted: a function of a module below this.
    pub(crate) apply: fn(Python<'_>, &Interpreter),
}

/// Events that the audit hook and the patches have counted.
#[derive(Default)]
pub(crate) struct Audit {
    /// How often code has set a trace or profile function for all threads.
    pub(crate) traced_all: AtomicU64,
    /// Set once a module was imported by which Python code calls C functions, and so may raise an
    /// exception in any thread.
    pub(crate) may_raise: AtomicBool,
}

/// Stores the data. Called once, by [`crate::start`] on Python's main thread.
pub(crate) fn set(interpreter: Interpreter) {
    // Cannot fail: Python is started once.
    let _: Result<(), _> = INTERPRETER.set(interpreter);
}

/// Returns the data; `None` until Python has started.
pub(crate) fn get() -> Option<&'static Interpreter> {
    INTERPRETER.get()
}

/// Applies what the host has set since the last job. Called by each job before it runs code.
pub(crate) fn apply_settings(py: Python<'_>) {
    if let Some(interpreter) = get() {
        let Logging {
            wanted, applied, ..
        } = &interpreter.logging;
        if wanted.load(Ordering::Relaxed) != applied.load(Ordering::Relaxed) {
            (interpreter.logging.apply)(py, interpreter);
        }
    }
}

/// Returns the data like [`get`], for a caller that can raise.
///
/// # Errors
/// Python has not been set up.
pub(crate) fn find(_: Python<'_>) -> PyResult<&'static Interpreter> {
    get().ok_or_else(|| PyRuntimeError::new_err("Python has not been set up"))
}
