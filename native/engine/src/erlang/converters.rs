//! `erlang.encoder` and `erlang.decoder`: how code registers its own conversions. Called on any thread that
//! runs Python code, attached; blocks on nothing.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple, PyType,
};

use crate::namespace::conversion::{Kind, register};

/// Atoms that never come as text, and the tags of the codec itself.
const RESERVED: [&str; 8] = [
    "true",
    "false",
    "none",
    "nil",
    "undefined",
    "bytes",
    "view",
    "ndarray",
];

/// Adds the functions to the module.
pub(super) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("encoder", wrap_pyfunction!(encoder, module)?)?;
    module.setattr("decoder", wrap_pyfunction!(decoder, module)?)
}

/// Has objects of a class, and of its subclasses, converted by a function: it gets the object, and returns
/// what is converted in its place. `None` for the function removes it.
#[pyfunction]
#[pyo3(signature = (class_, function, /))]
fn encoder(class_: &Bound<'_, PyAny>, function: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = class_.py();
    let Ok(class) = class_.cast::<PyType>() else {
        return Err(PyTypeError::new_err(
            "the first argument of encoder() must be a class",
        ));
    };
    let plain = [
        py.get_type::<PyInt>(),
        py.get_type::<PyFloat>(),
        py.get_type::<PyString>(),
        py.get_type::<PyBool>(),
        py.get_type::<PyBytes>(),
        py.get_type::<PyList>(),
        py.get_type::<PyTuple>(),
        py.get_type::<PyDict>(),
        py.get_type::<PyNone>(),
        py.get_type::<PyAny>(),
    ];
    if plain.iter().any(|plain| plain.is(class)) {
        let text = format!(
            "the form of {} is fixed: register a class of your own",
            class.name()?
        );
        return Err(PyTypeError::new_err(text));
    }
    check(function)?;
    register(Kind::Encoder, class, function)
}

/// Has tuples whose first element is the atom `tag` converted by a function: it gets the other elements as
/// arguments, and returns the object. `None` for the function removes it.
#[pyfunction]
#[pyo3(signature = (tag, function, /))]
fn decoder(tag: &Bound<'_, PyAny>, function: &Bound<'_, PyAny>) -> PyResult<()> {
    let Ok(tag) = tag.cast::<PyString>() else {
        return Err(PyTypeError::new_err(
            "the first argument of decoder() must be the name of an atom",
        ));
    };
    if RESERVED.contains(&&*tag.to_cow()?) {
        return Err(PyValueError::new_err(format!(
            "tuples with the tag {tag} have a fixed form"
        )));
    }
    check(function)?;
    register(Kind::Decoder, tag, function)
}

fn check(function: &Bound<'_, PyAny>) -> PyResult<()> {
    if function.is_none() || function.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(
        "the second argument must be a function, or None",
    ))
}
