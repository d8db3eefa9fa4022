//! A Python exception as plain data: captured on the worker, encoded into the reply.
//!
//! The atom that a caller matches is that of the nearest built-in class in the exception's MRO:
//! a fixed set, so user code mints no atoms.

use pyo3::exceptions::{PyBaseException, PySyntaxError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple, PyType};
use rustler::{Atom, Encoder, Env, Term};
use std::fmt;

use crate::convert::make_map;
use crate::kind::kind;
use crate::object::ErlangTerm;
use crate::traceback::{self, Frame};
use crate::{atoms, erlang};

/// Exceptions kept of a chain of causes.
const MAX_CHAIN: usize = 32;
/// Notes kept of an exception, the first ones.
const MAX_NOTES: usize = 32;

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
    pub(crate) fn capture(py: Python<'_>, err: &PyErr) -> Self {
        let value = err.value(py);
        // Before 3.12 an exception gets its traceback when an `except` catches it, as here.
        if let Some(traceback) = err.traceback(py) {
            // Cannot fail: it is an exception and a traceback. If it did, frames would be missing.
            let _: PyResult<()> = value.setattr(intern!(py, "__traceback__"), traceback);
        }
        Self::capture_value(value, &mut Vec::new())
    }

    fn capture_value(value: &Bound<'_, PyBaseException>, seen: &mut Vec<usize>) -> Self {
        seen.push(value.as_ptr() as usize);
        Self {
            kind: kind(&value.get_type()),
            class: class_name(&value.get_type()),
            message: value.str().map_or_else(
                |_| "<exception str() failed>".to_owned(),
                |text| lossy(&text),
            ),
            notes: notes(value).unwrap_or_default(),
            frames: traceback::frames(value).unwrap_or_default(),
            syntax: Syntax::capture(value),
            origin: Origin::capture(value),
            cause: Cause::capture(value, seen),
        }
    }
}

impl Origin {
    fn capture(value: &Bound<'_, PyBaseException>) -> Option<Self> {
        let py = value.py();
        let class = erlang::classes(py).ok()?.erlang_error.bind(py);
        if !value.is_instance(class).ok()? {
            return None;
        }
        let term = value.getattr(intern!(py, "_term")).ok()?;
        Some(Self(term.cast_into::<ErlangTerm>().ok()?.unbind()))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin")
    }
}

impl Cause {
    fn capture(value: &Bound<'_, PyBaseException>, seen: &mut Vec<usize>) -> Option<Self> {
        let py = value.py();
        let explicit = value.getattr(intern!(py, "__cause__")).ok()?;
        let (next, explicit) = if !explicit.is_none() {
            (explicit, true)
        } else {
            let suppressed = value.getattr(intern!(py, "__suppress_context__")).ok()?;
            if suppressed.is_truthy().unwrap_or(true) {
                return None;
            }
            (value.getattr(intern!(py, "__context__")).ok()?, false)
        };
        let next = next.cast_into::<PyBaseException>().ok()?;
        if seen.len() >= MAX_CHAIN || seen.contains(&(next.as_ptr() as usize)) {
            return None;
        }
        let exception = Box::new(Exception::capture_value(&next, seen));
        Some(Self {
            exception,
            explicit,
        })
    }
}

impl Syntax {
    fn capture(value: &Bound<'_, PyBaseException>) -> Option<Self> {
        let line = value.getattr(intern!(value.py(), "lineno"));
        // One that the program raised itself may say no place: it is printed like any other.
        if !value.is_instance_of::<PySyntaxError>() || line.is_ok_and(|line| line.is_none()) {
            return None;
        }
        let text = |name: &str| {
            let text = value.getattr(name).ok()?;
            text.cast::<PyString>().ok().map(lossy)
        };
        let number = |name: &str| {
            let number = value.getattr(name).ok();
            number.and_then(|n| n.extract().ok()).unwrap_or(0)
        };
        Some(Self {
            message: text("msg").unwrap_or_default(),
            file: text("filename").unwrap_or_else(|| "<unknown>".to_owned()),
            line: number("lineno"),
            offset: number("offset"),
            end_offset: number("end_offset"),
            text: text("text").unwrap_or_default(),
        })
    }
}

fn class_name(class: &Bound<'_, PyType>) -> String {
    let name = class
        .qualname()
        .map_or_else(|_| "<unknown>".to_owned(), |name| lossy(&name));
    match class.module() {
        Ok(module) if module != "builtins" => format!("{}.{name}", lossy(&module)),
        _ => name,
    }
}

fn notes(value: &Bound<'_, PyBaseException>) -> PyResult<Vec<String>> {
    let Some(notes) = value.getattr_opt(intern!(value.py(), "__notes__"))? else {
        return Ok(Vec::new());
    };
    // Anything else may run code of its own, for ever.
    if !notes.is_exact_instance_of::<PyList>() && !notes.is_exact_instance_of::<PyTuple>() {
        return Ok(Vec::new());
    }
    notes
        .try_iter()?
        .take(MAX_NOTES)
        .map(|note| Ok(lossy(&note?.str()?)))
        .collect()
}

pub(crate) fn lossy(text: &Bound<'_, PyString>) -> String {
    text.to_string_lossy().into_owned()
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
