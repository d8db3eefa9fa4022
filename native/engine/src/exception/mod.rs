//! A Python exception as plain data. Captured on the thread that has caught the exception, attached;
//! the host writes it into the reply. Blocks as long as `__str__` of the exception does.

use py_codec::Term;
use pyo3::ffi;
use pyo3::prelude::*;

mod capture;
mod traceback;
mod unknown_name;
mod write;

pub use crate::python::exception_class::NAMES as KINDS;
pub(crate) use capture::{Capture, MAX_NAME, check};
pub use traceback::Frame;
pub use write::write;

/// An exception, with its causes and its members.
#[derive(Debug)]
pub struct Exception {
    /// The name of the nearest built-in class, see `python/exception_class.rs`.
    pub kind: &'static str,
    pub class: String,
    pub message: String,
    pub notes: Vec<String>,
    pub frames: Vec<Frame>,
    pub syntax: Option<Syntax>,
    /// The `_term` of an `erlang.ErlangError`: the failure of the Erlang function.
    pub origin: Option<Py<Term>>,
    /// For a `NameError`: the name that the namespace of code from Erlang did not have.
    pub unknown_name: Option<String>,
    /// The members of an exception group; `None` for another exception.
    pub exceptions: Option<Vec<Exception>>,
    pub cause: Option<Cause>,
}

/// The cause of an exception, or its context.
#[derive(Debug)]
pub struct Cause {
    pub exception: Box<Exception>,
    /// `true` for `raise … from …`; `false` if the exception was raised while this one was handled.
    pub explicit: bool,
}

/// The fields of a `SyntaxError`.
#[derive(Debug)]
pub struct Syntax {
    pub message: String,
    pub file: String,
    pub line: u32,
    pub offset: u32,
    pub end_offset: u32,
    pub text: String,
}

impl Exception {
    /// Reads an exception. Called on a watched thread, since `__str__` of the exception runs, and may
    /// have to be interrupted.
    ///
    /// # Errors
    /// `Interrupted`, if the job had to stop meanwhile.
    pub fn capture(py: Python<'_>, err: &PyErr) -> PyResult<Self> {
        let value = err.value(py);
        // COMPAT(3.11): an exception gets its traceback when `except` catches it, or else here.
        if let Some(traceback) = err.traceback(py) {
            // SAFETY: attached, an exception and a traceback, so the call cannot fail.
            unsafe { ffi::PyException_SetTraceback(value.as_ptr(), traceback.as_ptr()) };
        }
        Capture::new().exception(value)
    }
}
