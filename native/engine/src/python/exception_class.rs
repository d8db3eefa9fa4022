//! The name by which Erlang matches an exception: that of the nearest built-in class in the MRO of its
//! class, as `except` would match it. The names are a fixed set, so code of a program cannot make
//! atoms. Called attached, on the thread that has caught the exception; runs no code of a program.

use pyo3::prelude::*;
use pyo3::types::PyType;
use std::collections::HashMap;

use super::fields;
use crate::interpreter;

/// Most classes of an MRO that are read: a metaclass may return an MRO of any length.
const MAX_MRO: usize = 1 << 12;

/// The built-in exception classes of Python 3.11 to 3.14, aliases left out.
#[rustfmt::skip]
pub const NAMES: &[&str] = &[
    "ArithmeticError", "AssertionError", "AttributeError", "BaseException", "BaseExceptionGroup",
    "BlockingIOError", "BrokenPipeError", "BufferError", "BytesWarning", "ChildProcessError",
    "ConnectionAbortedError", "ConnectionError", "ConnectionRefusedError", "ConnectionResetError",
    "DeprecationWarning", "EOFError", "EncodingWarning", "Exception", "ExceptionGroup",
    "FileExistsError", "FileNotFoundError", "FloatingPointError", "FutureWarning",
    "GeneratorExit", "ImportError", "ImportWarning", "IndentationError", "IndexError",
    "InterruptedError", "IsADirectoryError", "KeyError", "KeyboardInterrupt", "LookupError",
    "MemoryError", "ModuleNotFoundError", "NameError", "NotADirectoryError",
    "NotImplementedError", "OSError", "OverflowError", "PendingDeprecationWarning",
    "PermissionError", "ProcessLookupError", "PythonFinalizationError", "RecursionError",
    "ReferenceError", "ResourceWarning", "RuntimeError", "RuntimeWarning", "StopAsyncIteration",
    "StopIteration", "SyntaxError", "SyntaxWarning", "SystemError", "SystemExit", "TabError",
    "TimeoutError", "TypeError", "UnboundLocalError", "UnicodeDecodeError", "UnicodeEncodeError",
    "UnicodeError", "UnicodeTranslateError", "UnicodeWarning", "UserWarning", "ValueError",
    "Warning", "ZeroDivisionError",
];

/// Returns the index in [`NAMES`] of each built-in class, by the address of the class, which is never
/// freed. Called once, by `start`.
pub(crate) fn find_classes(py: Python<'_>) -> PyResult<HashMap<usize, usize>> {
    let builtins = py.import("builtins")?;
    let mut classes = HashMap::new();
    for (index, name) in NAMES.iter().enumerate() {
        // An older Python does not have the newer names.
        if let Some(class) = builtins.getattr_opt(*name)? {
            classes.insert(class.as_ptr() as usize, index);
        }
    }
    Ok(classes)
}

/// Returns the name of the nearest built-in class in the MRO of an exception class; `error` for a class
/// whose metaclass leaves every built-in class out of its MRO.
pub(crate) fn name_of(class: &Bound<'_, PyType>) -> &'static str {
    let classes = interpreter::get().map(|interpreter| &interpreter.types.exceptions);
    let lookup = |class: Bound<'_, PyAny>| classes?.get(&(class.as_ptr() as usize)).copied();
    let mro = fields::mro(class);
    let index = mro
        .iter()
        .flat_map(|mro| mro.iter().take(MAX_MRO))
        .find_map(lookup);
    index.and_then(|index| NAMES.get(index)).unwrap_or(&"error")
}
