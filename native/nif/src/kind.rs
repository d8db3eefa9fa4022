//! The atom of an exception: that of the nearest built-in class in its MRO, as `except` would
//! match it. A fixed set of atoms, so user code can mint none. Runs on workers, attached.

use once_cell::sync::OnceCell;
use pyo3::prelude::*;
use pyo3::types::PyType;
use rustler::Atom;
use std::collections::HashMap;

use crate::{atoms, fields};

/// Classes of an MRO that are looked at: a metaclass may make one of any length.
const MAX_MRO: usize = 1 << 12;

/// The built-in exception classes of Python 3.10 to 3.14, aliases left out.
#[rustfmt::skip]
const BUILTINS: &[&str] = &[
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

/// The address of each built-in class, which lives as long as the interpreter, and its atom.
static KINDS: OnceCell<HashMap<usize, Atom>> = OnceCell::new();

/// Fills the table of built-in classes. Runs once, when Python has started.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let builtins = py.import("builtins")?;
    let env = rustler::OwnedEnv::new();
    let mut kinds = HashMap::new();
    for name in BUILTINS {
        // Older Pythons lack the newer names.
        if let Some(class) = builtins.getattr_opt(*name)?
            && let Ok(atom) = env.run(|env| Atom::from_str(env, name))
        {
            kinds.insert(class.as_ptr() as usize, atom);
        }
    }
    // Python is started once: a second table would be the same.
    let _: Result<(), _> = KINDS.set(kinds);
    Ok(())
}

/// `error` only for a class whose metaclass leaves every built-in class out of its MRO.
pub(crate) fn kind(class: &Bound<'_, PyType>) -> Atom {
    let kinds = KINDS.get();
    let lookup = |class: Bound<'_, PyAny>| kinds?.get(&(class.as_ptr() as usize)).copied();
    let mro = fields::mro(class);
    mro.iter()
        .flat_map(|mro| mro.iter().take(MAX_MRO))
        .find_map(lookup)
        .unwrap_or_else(atoms::error)
}
