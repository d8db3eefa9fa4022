//! Reads an exception. Called on workers, attached, while the watchdog watches the task.
//!
//! The only code of a program that runs meanwhile is `__str__` of the exceptions and their notes. It
//! can be interrupted like any other code, and an interrupt ends the capture. All else is read from
//! the fields that C code keeps, and every walk is bounded.

use py_codec::Term;
use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyString, PyTuple, PyType};

use super::unknown_name::unknown_name;
use super::{Cause, Exception, Syntax, traceback};
use crate::interpreter;
use crate::interrupt::{self, Interrupted};
use crate::python::{exception_class, fields};

/// How deep causes and groups may nest.
const MAX_DEPTH: usize = 32;
/// Most exceptions kept of one group: the first ones.
const MAX_GROUP: usize = 64;
/// Most exceptions kept of one error, with all its groups and causes.
const MAX_EXCEPTIONS: usize = 256;
/// Most notes kept of an exception: the first ones.
const MAX_NOTES: usize = 32;
/// Most characters of a message, and of a note.
const MAX_TEXT: usize = 1 << 18;
/// Most characters of a name, and of a line of source.
pub(crate) const MAX_NAME: usize = 1 << 12;
/// Most characters of all texts of one error.
const MAX_TEXTS: usize = 1 << 20;
/// Most frames kept of one error, in all its tracebacks.
const MAX_FRAMES: usize = 1 << 12;

/// The capture of one error, with what is left of each limit.
pub(crate) struct Capture {
    /// The addresses of the exception that is read and of those around it, outermost first: an
    /// exception that leads to itself is read once.
    path: Vec<usize>,
    exceptions: usize,
    frames: usize,
    characters: usize,
}

/// The last character of a text that was cut.
const CUT: char = '…';

impl Capture {
    pub(super) fn new() -> Self {
        Self {
            path: Vec::new(),
            exceptions: MAX_EXCEPTIONS,
            frames: MAX_FRAMES,
            characters: MAX_TEXTS,
        }
    }

    /// Reads a cause, a context or a member of a group; `None` if the exception leads to itself, or
    /// exceeds a limit. The error is `Interrupted`.
    fn next(&mut self, value: &Bound<'_, PyBaseException>) -> PyResult<Option<Exception>> {
        let address = value.as_ptr() as usize;
        if self.path.len() >= MAX_DEPTH || self.exceptions == 0 || self.path.contains(&address) {
            return Ok(None);
        }
        check(value.py())?;
        self.exception(value).map(Some)
    }

    /// Reads an exception. The error is `Interrupted`.
    pub(super) fn exception(&mut self, value: &Bound<'_, PyBaseException>) -> PyResult<Exception> {
        self.exceptions -= 1;
        self.path.push(value.as_ptr() as usize);
        let class = value.get_type();
        let message = self.printed(value, MAX_TEXT, "<exception str() failed>")?;
        let exception = Exception {
            kind: exception_class::name_of(&class),
            class: self.class_name(&class),
            notes: self.notes(value)?,
            frames: traceback::frames(value, self)?,
            syntax: self.syntax(value),
            origin: origin(value),
            unknown_name: unknown_name(value, &message),
            message,
            exceptions: self.group(value)?,
            cause: self.cause(value)?,
        };
        self.path.pop();
        Ok(exception)
    }

    fn group(&mut self, value: &Bound<'_, PyBaseException>) -> PyResult<Option<Vec<Exception>>> {
        let Some(members) = fields::exceptions(value) else {
            return Ok(None);
        };
        let mut exceptions = Vec::new();
        for member in members.iter().take(MAX_GROUP) {
            if let Ok(member) = member.cast::<PyBaseException>() {
                exceptions.extend(self.next(member)?);
            }
        }
        Ok(Some(exceptions))
    }

    fn cause(&mut self, value: &Bound<'_, PyBaseException>) -> PyResult<Option<Cause>> {
        let (py, value_ptr) = (value.py(), value.as_ptr());
        // SAFETY: attached, and an exception; a new reference, or null if there is none.
        let cause =
            unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyException_GetCause(value_ptr)) };
        let explicit = cause.is_some();
        let next = match cause {
            Some(cause) => Some(cause),
            None if fields::suppresses_context(value) => None,
            // SAFETY: attached, and an exception; a new reference, or null if there is none.
            None => unsafe {
                Bound::from_owned_ptr_or_opt(py, ffi::PyException_GetContext(value_ptr))
            },
        };
        let Some(Ok(next)) = next.map(Bound::cast_into::<PyBaseException>) else {
            return Ok(None);
        };
        Ok(self.next(&next)?.map(|exception| Cause {
            exception: Box::new(exception),
            explicit,
        }))
    }

    fn syntax(&mut self, value: &Bound<'_, PyBaseException>) -> Option<Syntax> {
        let fields = fields::syntax(value)?;
        let [message, file, line, offset, end_offset, text] = &*fields else {
            return None;
        };
        // A `SyntaxError` that the program has raised may have no line: then it is printed like any
        // other exception.
        if line.is_none() {
            return None;
        }
        let mut name = |field: &Bound<'_, PyAny>| {
            let text = field.cast::<PyString>().ok()?;
            Some(self.text(text, MAX_NAME))
        };
        // An object of another class would run its `__index__`, which may never return.
        let number = |field: &Bound<'_, PyAny>| {
            let number = field.cast::<PyInt>().ok();
            number.and_then(|n| n.extract().ok()).unwrap_or(0)
        };
        Some(Syntax {
            message: name(message).unwrap_or_default(),
            file: name(file).unwrap_or_else(|| "<unknown>".to_owned()),
            line: number(line),
            offset: number(offset),
            end_offset: number(end_offset),
            text: name(text).unwrap_or_default(),
        })
    }

    fn class_name(&mut self, class: &Bound<'_, PyType>) -> String {
        let name = match fields::qualname(class) {
            Some(name) => self.text(&name, MAX_NAME),
            None => "<unknown>".to_owned(),
        };
        let module = fields::module(class).map(|module| self.text(&module, MAX_NAME));
        match module {
            Some(module) if module != "builtins" => format!("{module}.{name}"),
            _ => name,
        }
    }

    fn notes(&mut self, value: &Bound<'_, PyBaseException>) -> PyResult<Vec<String>> {
        let Some(notes) = fields::attribute(value, intern!(value.py(), "__notes__")) else {
            return Ok(Vec::new());
        };
        // Only the items of lists and tuples can be read without code of a program.
        let notes: Vec<_> = if let Ok(list) = notes.cast::<PyList>() {
            list.iter().take(MAX_NOTES).collect()
        } else if let Ok(tuple) = notes.cast::<PyTuple>() {
            tuple.iter().take(MAX_NOTES).collect()
        } else {
            Vec::new()
        };
        let print = |note| self.printed(note, MAX_TEXT, "<note str() failed>");
        notes.iter().map(print).collect()
    }

    /// Returns `str(object)`, or `failed` if that raises. Code of a program may run; the error is
    /// `Interrupted`.
    fn printed(
        &mut self,
        object: &Bound<'_, PyAny>,
        limit: usize,
        failed: &str,
    ) -> PyResult<String> {
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(self.text(text, limit));
        }
        match object.str() {
            Ok(text) => Ok(self.text(&text, limit)),
            Err(error) if is_interrupt(&error, object.py()) => Err(error),
            Err(_) => Ok(failed.to_owned()),
        }
    }

    /// Returns the beginning of a text, with [`CUT`] at the end if there is more.
    pub(crate) fn text(&mut self, text: &Bound<'_, PyString>, limit: usize) -> String {
        let py = text.py();
        let limit = limit.min(self.characters);
        // SAFETY: attached, and a str: the C level reads its length.
        let length = unsafe { ffi::PyUnicode_GetLength(text.as_ptr()) };
        let length = usize::try_from(length).unwrap_or(0);
        self.characters -= length.min(limit);
        if length <= limit {
            return lossy(text);
        }
        let end = ffi::Py_ssize_t::try_from(limit).unwrap_or(0);
        // SAFETY: attached, and a str; a new reference to a str, or null with an exception set.
        let start = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_Substring(text.as_ptr(), 0, end))
        };
        let start = start.map(Bound::cast_into::<PyString>);
        let mut start = start.map_or_else(
            |_| String::new(),
            |s| s.map_or_else(|_| String::new(), |s| lossy(&s)),
        );
        start.push(CUT);
        start
    }

    /// Cuts a line of source as `text` does.
    pub(crate) fn line(&mut self, mut line: String) -> String {
        let limit = MAX_NAME.min(self.characters);
        let cut = line.char_indices().nth(limit).map(|(index, _)| index);
        self.characters -= cut.map_or_else(|| line.chars().count(), |_| limit);
        if let Some(index) = cut {
            line.truncate(index);
            line.push(CUT);
        }
        line
    }

    /// Returns how many of `wanted` frames may be kept, and counts them.
    pub(crate) fn take_frames(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.frames);
        self.frames -= taken;
        taken
    }
}

/// Returns the term of an `erlang.ErlangError`: the failure of an Erlang function.
fn origin(value: &Bound<'_, PyBaseException>) -> Option<Py<Term>> {
    let py = value.py();
    let class = interpreter::find(py).ok()?.erlang.erlang_error.bind(py);
    if !fields::is_instance(value, class) {
        return None;
    }
    let term = fields::attribute(value, intern!(py, "_term"))?;
    Some(term.cast_into::<Term>().ok()?.unbind())
}

/// Returns a pending interrupt as an error. Between two calls of `check` the capture may run no Python
/// code, which would raise it.
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    match interrupt::take(py) {
        Some(error) if is_interrupt(&error, py) => Err(error),
        _ => Ok(()),
    }
}

fn is_interrupt(error: &PyErr, py: Python<'_>) -> bool {
    fields::is_instance(error.value(py), &py.get_type::<Interrupted>())
}

fn lossy(text: &Bound<'_, PyString>) -> String {
    text.to_string_lossy().into_owned()
}
