//! Whether a `NameError` says that the namespace of code from Erlang lacks a name. Called on workers, attached;
//! runs no code of a program and blocks on nothing.

use pyo3::exceptions::{PyBaseException, PyNameError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTraceback};

use super::MAX_NAME;
use crate::python::{code_cache, fields};

/// Returns the name that Python has looked up in vain, if the code that has done so came from Erlang and its
/// namespace still lacks the name. `None` for an error of a library, for one that a program has made itself, and
/// for a variable of a function.
pub(super) fn unknown_name(value: &Bound<'_, PyBaseException>, message: &str) -> Option<String> {
    if !value.get_type().is(value.py().get_type::<PyNameError>()) {
        return None;
    }
    let name = fields::unknown_name(value)?.to_cow().ok()?.into_owned();
    // Python's message for a variable of an enclosing function, which has a name as well, is another one.
    let has_message = message == format!("name '{name}' is not defined");
    if !has_message || name.chars().count() > MAX_NAME {
        return None;
    }
    let globals = globals_of_erlang(value)?;
    let has_name = |key: Bound<'_, PyAny>| {
        let key = key.cast_exact::<PyString>();
        key.is_ok_and(|key| key.to_cow().is_ok_and(|key| key == name.as_str()))
    };
    let is_known = globals.iter().any(|(key, _)| has_name(key));
    (!is_known).then_some(name)
}

/// Returns the globals of the innermost frame, if its code came from Erlang.
fn globals_of_erlang<'py>(value: &Bound<'py, PyBaseException>) -> Option<Bound<'py, PyDict>> {
    let py = value.py();
    // SAFETY: attached, and an exception; a new reference, or null if there is none.
    let first =
        unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyException_GetTraceback(value.as_ptr())) };
    let mut innermost = first?.cast_into_exact::<PyTraceback>().ok()?;
    while let Ok(next) = innermost.getattr(intern!(py, "tb_next"))
        && let Ok(next) = next.cast_into_exact::<PyTraceback>()
    {
        innermost = next;
    }
    let frame = innermost.getattr(intern!(py, "tb_frame")).ok()?;
    let code = frame.getattr(intern!(py, "f_code")).ok()?;
    let file = code.getattr(intern!(py, "co_filename")).ok()?;
    let file = file.cast_exact::<PyString>().ok()?.to_cow().ok()?;
    if file != code_cache::FILE {
        return None;
    }
    let globals = frame.getattr(intern!(py, "f_globals")).ok()?;
    globals.cast_into_exact::<PyDict>().ok()
}
