//! Starts Python, once in the life of a program. Never finalizes it: daemon threads and C extensions
//! do not survive that.
//!
//! [`start`] is called by the host, detached, and blocks until the interpreter is set up by a new
//! thread, `py_main`. That is Python's main thread for ever: it parks, detached, since code that
//! insists on the main thread must find it alive.

use crossbeam_channel::{Sender, bounded};
use once_cell::sync::OnceCell;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::host::Host;
use crate::interpreter::{self, Audit, Converters, Interpreter, Logging, Types};
use crate::namespace::{self, patches};
use crate::python::{
    arena_cache, audit_hook, code_cache, exception_class, faulthandler, fields, garbage,
    switch_interval,
};
use crate::{asyncio, erlang, inspect, interrupt};

/// Bytes of the stack of a thread that runs Python. A recursion of [`patches::MAX_RECURSION`] calls
/// fits in the worst case that was measured, 23.6 KB a call: numpy's functions on arrays of Python
/// objects that call such functions (CPython 3.10). Address space only: pages are used as they are
/// touched.
pub const STACK_SIZE: usize = 256 << 20;

/// Starts Python as `executable` would, and blocks until it has started. `host` is the host of code
/// that belongs to no job. Called once, detached.
///
/// # Errors
/// A text with the cause. Python cannot be started again in this program.
pub fn start(executable: &str, host: Arc<dyn Host>) -> Result<(), String> {
    let executable = CString::new(executable).map_err(|e| e.to_string())?;
    let (started, outcome) = bounded(1);
    let main = move || main_thread(&executable, host, &started);
    let thread = thread::Builder::new()
        .name("py_main".to_owned())
        .stack_size(STACK_SIZE)
        .spawn(main);
    thread.map_err(|e| format!("no thread for Python: {e}"))?;
    outcome
        .recv()
        .unwrap_or_else(|_| Err("Python's main thread panicked".to_owned()))
}

/// Sets up the interpreter of a program that Python itself has started. Called once, on Python's main
/// thread, before any code of a user. `host` is the host of code that belongs to no job.
///
/// # Errors
/// The exception of a module that Python lacks.
pub fn adopt(py: Python<'_>, host: Arc<dyn Host>) -> PyResult<()> {
    setup(py, host, true)
}

/// The body of Python's main thread: initializes the interpreter, sends the outcome to `start`, and
/// parks for ever; returns after a failure.
fn main_thread(executable: &CString, host: Arc<dyn Host>, started: &Sender<Result<(), String>>) {
    let setup = |py: Python<'_>| setup(py, host, false).map_err(|error| error.to_string());
    let outcome = initialize(executable).and_then(|()| Python::attach(setup));
    let running = outcome.is_ok();
    // Cannot fail: `start` holds the receiver until the message has come.
    let _: Result<(), _> = started.send(outcome);
    if !running {
        return;
    }
    // SAFETY: this thread is attached since it has initialized Python, and never runs Python again.
    unsafe { ffi::PyEval_SaveThread() };
    loop {
        thread::park();
    }
}

/// Initializes the interpreter without signal handlers, which are the BEAM's. Returns attached.
#[cfg(not(feature = "abi3"))]
fn initialize(executable: &CString) -> Result<(), String> {
    use std::ffi::CStr;
    use std::mem::MaybeUninit;

    let text = |status: &ffi::PyStatus| {
        if status.err_msg.is_null() {
            return format!("Python asked to exit with status {}", status.exitcode);
        }
        // SAFETY: a PyStatus holds a static NUL-terminated message, or null.
        unsafe { CStr::from_ptr(status.err_msg) }
            .to_string_lossy()
            .into_owned()
    };
    let mut config = MaybeUninit::<ffi::PyConfig>::uninit();
    let config = config.as_mut_ptr();
    // SAFETY: `config` is initialized by the first call, used by this thread only, and cleared by the
    // last call; no other thread uses Python before it is initialized.
    let status = unsafe {
        ffi::PyConfig_InitPythonConfig(config);
        (*config).install_signal_handlers = 0;
        (*config).parse_argv = 0;
        let name = executable.as_ptr();
        let mut status =
            ffi::PyConfig_SetBytesString(config, &raw mut (*config).program_name, name);
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::PyConfig_SetBytesString(config, &raw mut (*config).executable, name);
        }
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(config);
        }
        ffi::PyConfig_Clear(config);
        status
    };
    // SAFETY: takes the status by value.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        Ok(())
    } else {
        Err(text(&status))
    }
}

/// Initializes the interpreter without signal handlers. The limited API has no `PyConfig`.
#[cfg(feature = "abi3")]
#[allow(deprecated, reason = "the one way that the limited API has")]
fn initialize(executable: &CString) -> Result<(), String> {
    // SAFETY: Python is not initialized yet; it keeps the pointer to the name, which is never freed.
    unsafe {
        let name = ffi::Py_DecodeLocale(executable.as_ptr(), std::ptr::null_mut());
        if name.is_null() {
            return Err("the path of the executable cannot be decoded".to_owned());
        }
        ffi::Py_SetProgramName(name);
        // 0: no signal handlers.
        ffi::Py_InitializeEx(0);
    }
    Ok(())
}

/// Sets the interpreter up, on Python's main thread, attached, before any code of a program runs. The
/// order matters: `look_up` must find the functions that `patches` replaces; the replacements and the
/// hooks use the [`Interpreter`]; each hook is installed before the imports that it has to see.
/// `owns_process`: the process is there for this Python alone, so code may signal it.
fn setup(py: Python<'_>, host: Arc<dyn Host>, owns_process: bool) -> PyResult<()> {
    arena_cache::init();
    interpreter::set(look_up(py, host, owns_process)?);
    patches::install(py, interpreter::find(py)?)?;
    interrupt::mask_imports(py, note_load)?;
    audit_hook::install(py)?;
    faulthandler::enable(py)?;
    interrupt::install_handler()?;
    restore_sigint(py)?;
    buffer_lines(py)?;
    erlang::output::install(py)
}

/// Called at the end of each load of a module; see `asyncio::note_load`.
fn note_load(name: &Bound<'_, PyString>, loaded: &Bound<'_, PyAny>) {
    asyncio::note_load(name, loaded);
    patches::note_load(name, loaded);
}

/// Looks up the objects that the engine keeps, and makes its Python modules.
fn look_up(py: Python<'_>, host: Arc<dyn Host>, owns_process: bool) -> PyResult<Interpreter> {
    let sys = py.import("sys")?;
    let types = py.import("types")?;
    let kind = |name: &str| types.getattr(name).map(Bound::unbind);
    let compiler = code_cache::find_compiler(py)?;
    // `threading` takes the thread that imports it first for the main thread.
    let active = py.import("threading")?.getattr("_active")?;
    Ok(Interpreter {
        getters: fields::find_getters(py)?,
        types: Types {
            generator: kind("GeneratorType")?,
            coroutine: kind("CoroutineType")?,
            async_generator: kind("AsyncGeneratorType")?,
            exceptions: exception_class::find_classes(py)?,
        },
        erlang: erlang::install(py)?,
        gc: garbage::find(py)?,
        main: namespace::install_main(py)?,
        interrupts: interrupt::find(py, compiler.compile.bind(py))?,
        compiler,
        code_table: Mutex::default(),
        stream_changes: Mutex::default(),
        builtins: py.import("builtins")?.unbind(),
        modules: sys.getattr("modules")?.cast_into::<PyDict>()?.unbind(),
        active_threads: active.cast_into::<PyDict>()?.unbind(),
        ends: vec![asyncio::close_loops],
        cleanup: namespace::cleanup::load_module(py)?,
        event_loop: PyOnceLock::new(),
        is_loading_event_loop: AtomicBool::new(false),
        complete_event_loop: erlang::complete_event_loop,
        next_call: AtomicU64::new(1),
        switch_interval: switch_interval::find(py)?,
        current_frames: py.import("sys")?.getattr("_current_frames")?.unbind(),
        frame_fields: inspect::fields(py),
        inspector: OnceCell::new(),
        audit: Audit::default(),
        inherits_output: AtomicBool::new(false),
        host_of_new_thread: erlang::output::host_of_new_thread,
        logging: Logging {
            wanted: AtomicU32::new(0),
            applied: AtomicU32::new(0),
            module: PyOnceLock::new(),
            apply: erlang::logging::apply,
        },
        converters: Converters {
            is_used: AtomicBool::new(false),
            is_preload: AtomicBool::new(false),
            of_pool: [PyDict::new(py).unbind(), PyDict::new(py).unbind()],
            by_namespace: Mutex::default(),
            none: AtomicU8::new(0),
        },
        sys: sys.unbind(),
        host,
        owns_process,
    })
}

/// Makes the standard streams flush after each line: nothing flushes them at an exit, since Python is
/// never finalized.
fn buffer_lines(py: Python<'_>) -> PyResult<()> {
    for name in ["stdout", "stderr"] {
        let stream = py.import("sys")?.getattr(name)?;
        if !stream.is_none() {
            let options = PyDict::new(py);
            options.set_item("line_buffering", true)?;
            stream.call_method("reconfigure", (), Some(&options))?;
        }
    }
    Ok(())
}

/// Gives SIGINT its default action again. The first import of `_signal` installs a handler where the
/// signal has the default action, whatever the configuration says (`signal_get_set_handlers` in
/// CPython's signalmodule.c). Only Python's main thread can remove it, so the import happens here.
fn restore_sigint(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("_signal")?;
    let interrupt = signal.getattr("SIGINT")?;
    let handler = signal.call_method1("getsignal", (&interrupt,))?;
    if handler.is(&signal.getattr("default_int_handler")?) {
        signal.call_method1("signal", (interrupt, signal.getattr("SIG_DFL")?))?;
    }
    Ok(())
}
