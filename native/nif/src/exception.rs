//! A Python exception as plain data: captured on the worker, encoded into the reply.
//!
//! The atom that a caller matches is that of the nearest built-in class in the exception's MRO:
//! a fixed set, so user code mints no atoms.

use pyo3::ffi;
use pyo3::prelude::*;
use rustler::{Atom, Encoder, Env, Term};
use std::fmt;

use crate::atoms;
use crate::convert::make_map;
use crate::object::ErlangTerm;
use crate::traceback::Frame;

mod capture;

pub(crate) use capture::{Capture, MAX_NAME, check};

#[derive(Debug)]
pub(crate) struct Exception {
    pub(crate) kind: Atom,
    pub(crate) class: String,
    pub(crate) message: String,
    notes: Vec<String>,
    frames: Vec<Frame>,
    syntax: Option<Syntax>,
    /// What an Erlang function failed with.
    origin: Option<Origin>,
    /// The members of an exception group; `None` for another exception.
    exceptions: Option<Vec<Exception>>,
    cause: Option<Cause>,
}

/// `{Class, Reason, Stacktrace}`.
struct Origin(Py<ErlangTerm>);

#[derive(Debug)]
struct Cause {
    exception: Box<Exception>,
    /// `raise … from …`, or merely raised while the other was handled.
    explicit: bool,
}

#[derive(Debug)]
struct Syntax {
    message: String,
    file: String,
    line: u32,
    offset: u32,
    end_offset: u32,
    text: String,
}

impl Exception {
    /// Called on an attached thread, in a task that the watchdog watches. The error is
    /// `Interrupted`: code that prints the exception had to stop.
    pub(crate) fn capture(py: Python<'_>, err: &PyErr) -> PyResult<Self> {
        let value = err.value(py);
        // Before 3.12 an exception gets its traceback when an `except` catches it, as here.
        if let Some(traceback) = err.traceback(py) {
            // SAFETY: attached, an exception and a traceback. No error, since it is one.
            unsafe { ffi::PyException_SetTraceback(value.as_ptr(), traceback.as_ptr()) };
        }
        Capture::new().exception(value)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin")
    }
}

impl Encoder for Exception {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let mut pairs = vec![
            (atoms::class(), self.class.encode(env)),
            (atoms::message(), self.message.encode(env)),
            (atoms::traceback(), self.frames.encode(env)),
        ];
        match &self.cause {
            None => pairs.push((atoms::cause(), atoms::none().encode(env))),
            Some(cause) => {
                let chain = if cause.explicit {
                    atoms::cause()
                } else {
                    atoms::context()
                };
                pairs.push((atoms::cause(), cause.exception.encode(env)));
                pairs.push((atoms::chain(), chain.encode(env)));
            }
        }
        if let Some(exceptions) = &self.exceptions {
            pairs.push((atoms::exceptions(), exceptions.encode(env)));
        }
        if !self.notes.is_empty() {
            pairs.push((atoms::notes(), self.notes.encode(env)));
        }
        if let Some(Origin(term)) = &self.origin {
            pairs.push((atoms::erlang(), term.get().to_term(env)));
        }
        if let Some(syntax) = &self.syntax {
            pairs.push((atoms::syntax(), syntax.encode(env)));
        }
        make_map(env, &pairs)
    }
}

impl Encoder for Syntax {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        make_map(
            env,
            &[
                (atoms::message(), self.message.encode(env)),
                (atoms::file(), self.file.encode(env)),
                (atoms::line(), self.line.encode(env)),
                (atoms::offset(), self.offset.encode(env)),
                (atoms::end_offset(), self.end_offset.encode(env)),
                (atoms::text(), self.text.encode(env)),
            ],
        )
    }
}
