//! Starts Python, once in the life of the VM, on a thread of its own that is Python's main
//! thread for ever. Never finalizes it: daemon threads and C extensions do not survive that.
//!
//! `start` runs on a dirty scheduler and waits for the main thread. That one attaches to start
//! Python, and then sleeps: code that insists on the main thread must find it alive.

use crossbeam_channel::{Sender, bounded};
use once_cell::sync::OnceCell;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CString;
use std::thread;

use crate::thread::STACK_SIZE;
use crate::{
    audit, code, coroutines, erlang, exit, fatal, fields, garbage, imports, interrupt, kind,
    namespace, release, tidy, turn, watchdog,
};

/// How the one start went.
static STARTED: OnceCell<Result<(), String>> = OnceCell::new();

/// Starts Python as `executable` would. A second call tells how the first one went: Python
/// cannot be started twice in one process.
pub(crate) fn start(executable: &str) -> Result<(), String> {
    let spawn = || {
        let executable = CString::new(executable).map_err(|e| e.to_string())?;
        let (started, outcome) = bounded(1);
        let main = move || main_thread(&executable, &started);
        let thread = thread::Builder::new()
            .name("py_main".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(main);
        thread.map_err(|e| format!("no thread for Python: {e}"))?;
        outcome
            .recv()
            .unwrap_or_else(|_| Err("Python's main thread panicked".to_owned()))
    };
    STARTED.get_or_init(spawn).clone()
}

fn main_thread(executable: &CString, started: &Sender<Result<(), String>>) {
    let outcome = initialize(executable).and_then(|()| Python::attach(setup_or_text));
    let running = outcome.is_ok();
    // The starter waits for this message; it cannot have gone away.
    let _: Result<(), _> = started.send(outcome);
    if !running {
        return;
    }
    // SAFETY: this thread is attached since it initialised Python, and does nothing from here on.
    unsafe { ffi::PyEval_SaveThread() };
    loop {
        thread::park();
    }
}

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
    // SAFETY: `config` is initialised by the first call, used by this thread only, and cleared
    // by the last; nothing of Python runs before.
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
    // SAFETY: reads a value.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        Ok(())
    } else {
        Err(text(&status))
    }
}

/// The limited API has no `PyConfig`.
#[cfg(feature = "abi3")]
#[allow(deprecated, reason = "the one way that the limited API has")]
fn initialize(executable: &CString) -> Result<(), String> {
    // SAFETY: Python is not running yet, and keeps the name, which is never freed.
    unsafe {
        let name = ffi::Py_DecodeLocale(executable.as_ptr(), std::ptr::null_mut());
        if name.is_null() {
            return Err("the path of the executable cannot be decoded".to_owned());
        }
        ffi::Py_SetProgramName(name);
        // No signal handlers: they are the BEAM's.
        ffi::Py_InitializeEx(0);
    }
    Ok(())
}

fn setup_or_text(py: Python<'_>) -> Result<(), String> {
    setup(py).map_err(|error| error.to_string())
}

fn setup(py: Python<'_>) -> PyResult<()> {
    crate::arenas::init();
    fields::init(py)?;
    kind::init(py)?;
    erlang::init(py)?;
    garbage::init(py)?;
    let sys = py.import("sys")?;
    namespace::init(py)?;
    tidy::init(py)?;
    code::init(py)?;
    coroutines::init(py)?;
    imports::init(py)?;
    audit::init(py)?;
    fatal::init(py)?;
    exit::init()?;
    turn::init()?;
    watchdog::init()?;
    interrupt::init(py)?;
    release::spawn()?;
    leave_signals_alone(py)?;
    // Whichever thread imports it first is "the main thread" for `threading`.
    py.import("threading")?;
    for name in ["stdout", "stderr"] {
        let stream = sys.getattr(name)?;
        // Nothing flushes these at an exit, since Python is never finalized.
        if !stream.is_none() {
            let options = pyo3::types::PyDict::new(py);
            options.set_item("line_buffering", true)?;
            stream.call_method("reconfigure", (), Some(&options))?;
        }
    }
    Ok(())
}

/// The first import of `_signal` installs a handler for SIGINT where that has the default action,
/// whatever the configuration says (`signal_get_set_handlers` in CPython's signalmodule.c). Only
/// the main thread can take it off again, so the import happens here.
fn leave_signals_alone(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("_signal")?;
    let interrupt = signal.getattr("SIGINT")?;
    let handler = signal.call_method1("getsignal", (&interrupt,))?;
    if handler.is(&signal.getattr("default_int_handler")?) {
        signal.call_method1("signal", (interrupt, signal.getattr("SIG_DFL")?))?;
    }
    Ok(())
}
