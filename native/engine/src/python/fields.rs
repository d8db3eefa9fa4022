//! The fields that C code keeps of classes and exceptions, read through the descriptors of the
//! built-in classes: a class may override every attribute by code that never returns.
//!
//! Called on any thread, attached. No function here runs code of a program or blocks.

use pyo3::exceptions::{PyBaseException, PyNameError, PyRuntimeError, PySyntaxError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::interpreter::{self, Getters};

/// The fields of a `SyntaxError`.
const SYNTAX: [&str; 6] = ["msg", "filename", "lineno", "offset", "end_offset", "text"];

/// Most attributes of an exception that are read.
const MAX_ATTRIBUTES: usize = 1 << 16;

/// Looks up the descriptors. Called once, by `start`.
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
        unknown_name: getter(&py.get_type::<PyNameError>().into_any(), "name")?,
        syntax: SYNTAX
            .iter()
            .map(|name| getter(&syntax, name))
            .collect::<PyResult<_>>()?,
    })
}

/// Reads a field of `of` through its descriptor, even if the class of `of` overrides the attribute.
fn get<'py>(
    of: &Bound<'py, PyAny>,
    getter: impl FnOnce(&Getters) -> Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let missing = || PyRuntimeError::new_err("there is no such field");
    let getter = getter(&interpreter::find(of.py())?.getters).ok_or_else(missing)?;
    getter.bind(of.py()).call1((of,))
}

/// Returns the MRO of `class`, which its metaclass has made: it may be empty.
pub(crate) fn mro<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyTuple>> {
    let mro = get(class, |getters| Some(&getters.mro)).ok()?;
    mro.cast_into::<PyTuple>().ok()
}

/// Returns the qualified name of `class`, if that is text.
pub(crate) fn qualname<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyString>> {
    let name = get(class, |getters| Some(&getters.qualname)).ok()?;
    name.cast_into::<PyString>().ok()
}

/// Returns the name of the module of `class`, if that is text.
pub(crate) fn module<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyString>> {
    let module = get(class, |getters| Some(&getters.module)).ok()?;
    module.cast_into::<PyString>().ok()
}

/// Returns an attribute out of the `__dict__` of an exception.
pub(crate) fn attribute<'py>(
    value: &Bound<'py, PyBaseException>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    let attributes = get(value, |getters| Some(&getters.attributes)).ok()?;
    // The comparison of a key that is no exact `str` may be code of a program.
    let attributes = attributes.cast_into_exact::<PyDict>().ok()?;
    let is_text = |(key, _): &(Bound<'_, PyAny>, _)| key.is_exact_instance_of::<PyString>();
    let mut items = attributes.iter().take(MAX_ATTRIBUTES).filter(is_text);
    let has_name = |key: &Bound<'_, PyAny>| key.eq(name).unwrap_or(false);
    items.find_map(|(key, value)| has_name(&key).then_some(value))
}

/// Returns the `__suppress_context__` of an exception, which `raise … from …` sets.
pub(crate) fn suppresses_context(value: &Bound<'_, PyBaseException>) -> bool {
    let suppresses = get(value, |getters| Some(&getters.suppress_context));
    suppresses
        .and_then(|suppresses| suppresses.is_truthy())
        .unwrap_or(true)
}

/// Returns the members of an exception group; `None` for another exception.
pub(crate) fn exceptions<'py>(value: &Bound<'py, PyBaseException>) -> Option<Bound<'py, PyTuple>> {
    let exceptions = get(value, |getters| Some(&getters.exceptions)).ok()?;
    exceptions.cast_into::<PyTuple>().ok()
}

/// Returns the name that a `NameError` has; `None` if Python has not set it, and for other exceptions.
pub(crate) fn unknown_name<'py>(
    value: &Bound<'py, PyBaseException>,
) -> Option<Bound<'py, PyString>> {
    let name = get(value, |getters| Some(&getters.unknown_name)).ok()?;
    name.cast_into_exact::<PyString>().ok()
}

/// Returns the fields of a `SyntaxError` in the order of [`SYNTAX`], which may be of any class; `None`
/// for another exception.
pub(crate) fn syntax<'py>(value: &Bound<'py, PyBaseException>) -> Option<Vec<Bound<'py, PyAny>>> {
    (0..SYNTAX.len())
        .map(|field| get(value, |getters| getters.syntax.get(field)).ok())
        .collect()
}

/// Whether the class of `value` is `class` or inherits from it, whatever its `__class__` says.
pub(crate) fn is_instance(value: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>) -> bool {
    let Ok(class) = class.cast::<PyType>() else {
        return false;
    };
    let class_of_value = value.get_type();
    // SAFETY: attached, and two classes.
    unsafe { ffi::PyType_IsSubtype(class_of_value.as_type_ptr(), class.as_type_ptr()) != 0 }
}
