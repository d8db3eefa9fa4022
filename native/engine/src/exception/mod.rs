//! A Python exception as plain data: captured on the thread that has caught it, attached; written
//! into the reply by the host.

use py_codec::Term;
use pyo3::ffi;
use pyo3::prelude::*;

mod capture;
mod traceback;

pub(crate) use capture::{Capture, MAX_NAME, check};
pub use traceback::Frame;

#[derive(Debug)]
pub struct Exception {
    /// The name of the nearest built-in class.
    pub kind: &'static str,
    pub class: String,
    pub message: String,
    pub notes: Vec<String>,
    pub frames: Vec<Frame>,
    pub syntax: Option<Syntax>,
    /// The `_term` of an `erlang.ErlangError`: what the Erlang function has failed with.
    pub origin: Option<Py<Term>>,
    /// The members of an exception group; `None` for another exception.
    pub exceptions: Option<Vec<Exception>>,
    pub cause: Option<Cause>,
}

#[derive(Debug)]
pub struct Cause {
    pub exception: Box<Exception>,
    /// `raise … from …`, or merely raised while the other was handled.
    pub explicit: bool,
}

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
    /// Reads an exception. Called on a watched thread, since `__str__` of the exception runs.
    ///
    /// # Errors
    /// `Interrupted`: the code of `__str__` had to stop.
    pub fn capture(py: Python<'_>, err: &PyErr) -> PyResult<Self> {
        let value = err.value(py);
        // Before 3.12 an exception gets its traceback when an `except` catches it, as here.
        if let Some(traceback) = err.traceback(py) {
            // SAFETY: attached, an exception and a traceback. No error, since it is one.
            unsafe { ffi::PyException_SetTraceback(value.as_ptr(), traceback.as_ptr()) };
        }
        Capture::new().exception(value)
    }
}
