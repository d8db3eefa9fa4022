//! The fields that C code keeps of classes and exceptions, read through the descriptors of the
//! built-in classes: a class may override every attribute, and its code would run for ever.
//!
//! Used by workers, attached. No function here runs code of a program.

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PySyntaxError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::interpreter::{self, Getters};

/// The fields of a `SyntaxError`.
const SYNTAX: [&str; 6] = ["msg", "filename", "lineno", "offset", "end_offset", "text"];

/// Attributes of an exception that are looked at.
const MAX_ATTRIBUTES: usize = 1 << 16;

/// Finds the descriptors. Called once, when Python has started.
pub(crate) fn find_getters(py: Python<'_>) -> PyResult<Getters> {
    let getter = |class: &Bound<'_, PyAny>, name: &str| {
        let descriptor = class.getattr("__dict__")?.get_item(name)?;
        descriptor.getattr("__get__").map(Bound::unbind)
    };
    let class = py.get_type::<PyType>().into_any();
    let base = py.get_type::<PyBaseException>().into_any();
    let syntax = py.get_type::<PySyntaxError>().into_any();
    let group = py.import("builtins")?.getattr("BaseExceptionGroup")?;
    Ok(Getters {
        mro: getter(&class, "__mro__")?,
        qualname: getter(&class, "__qualname__")?,
        module: getter(&class, "__module__")?,
        attributes: getter(&base, "__dict__")?,
        suppress_context: getter(&base, "__suppress_context__")?,
        exceptions: getter(&group, "exceptions")?,
        syntax: SYNTAX
            .iter()
            .map(|name| getter(&syntax, name))
            .collect::<PyResult<_>>()?,
    })
}

/// Reads a field of `of` through its descriptor, whatever the class of `of` overrides.
fn get<'py>(
    of: &Bound<'py, PyAny>,
    getter: impl FnOnce(&Getters) -> Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let missing = || PyRuntimeError::new_err("there is no such field");
    let getter = getter(&interpreter::find(of.py())?.getters).ok_or_else(missing)?;
    getter.bind(of.py()).call1((of,))
}
/// The classes that `class` inherits from, and itself: what its metaclass has said, so there may be
/// none.
pub(crate) fn mro<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyTuple>> {
    let mro = get(class, |getters| Some(&getters.mro)).ok()?;
    mro.cast_into::<PyTuple>().ok()
}

pub(crate) fn qualname<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyString>> {
    let name = get(class, |getters| Some(&getters.qualname)).ok()?;
    name.cast_into::<PyString>().ok()
}

/// The name of the module of `class`, if that is text.
pub(crate) fn module<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyString>> {
    let module = get(class, |getters| Some(&getters.module)).ok()?;
    module.cast_into::<PyString>().ok()
}

/// An attribute that is kept in the exception itself.
pub(crate) fn attribute<'py>(
    value: &Bound<'py, PyBaseException>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    let attributes = get(value, |getters| Some(&getters.attributes)).ok()?;
    // Keys that are no text could have a comparison of their own.
    let own = attributes.cast_into_exact::<PyDict>().ok()?;
    let is_text = |(key, _): &(Bound<'_, PyAny>, _)| key.is_exact_instance_of::<PyString>();
    let mut items = own.iter().take(MAX_ATTRIBUTES).filter(is_text);
    let is_it = |key: &Bound<'_, PyAny>| key.eq(name).unwrap_or(false);
    items.find_map(|(key, value)| is_it(&key).then_some(value))
}

/// Whether `raise … from None` was said, or the like.
pub(crate) fn suppresses_context(value: &Bound<'_, PyBaseException>) -> bool {
    let suppresses = get(value, |getters| Some(&getters.suppress_context));
    suppresses
        .and_then(|suppresses| suppresses.is_truthy())
        .unwrap_or(true)
}

/// The members of an exception group. `None` for another exception.
pub(crate) fn exceptions<'py>(value: &Bound<'py, PyBaseException>) -> Option<Bound<'py, PyTuple>> {
    let exceptions = get(value, |getters| Some(&getters.exceptions)).ok()?;
    exceptions.cast_into::<PyTuple>().ok()
}

/// The fields of a `SyntaxError` in the order of `SYNTAX`, whatever they are. `None` for another
/// exception.
pub(crate) fn syntax<'py>(value: &Bound<'py, PyBaseException>) -> Option<Vec<Bound<'py, PyAny>>> {
    (0..SYNTAX.len())
        .map(|field| get(value, |getters| getters.syntax.get(field)).ok())
        .collect()
}

/// Whether `value` is an instance of `class`, by what C code knows of its class.
pub(crate) fn is_instance(value: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>) -> bool {
    let Ok(class) = class.cast::<PyType>() else {
        return false;
    };
    let own = value.get_type();
    // SAFETY: attached, and two classes.
    unsafe { ffi::PyType_IsSubtype(own.as_type_ptr(), class.as_type_ptr()) != 0 }
}
