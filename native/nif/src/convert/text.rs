//! Text of the BEAM: binaries and atoms as `str`. Runs on workers, attached.

#[cfg(not(feature = "abi3"))]
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustler::{Binary, Term};

/// `enif_get_atom` knows Latin-1 only before NIF 2.17; other atoms take the way over the
/// external term format: `131, 118, Length:16, Utf8` or `131, 119, Length:8, Utf8`.
pub(super) fn of_atom(term: Term<'_>) -> String {
    if let Ok(text) = term.atom_to_string() {
        return text;
    }
    let external = term.to_binary();
    let text = match &*external {
        [131, 118, _, _, text @ ..] | [131, 119, _, text @ ..] => text,
        _ => &[],
    };
    String::from_utf8_lossy(text).into_owned()
}

pub(super) fn of_binary<'py>(py: Python<'py>, binary: &Binary<'_>) -> Bound<'py, PyAny> {
    let bytes = binary.as_slice();
    if bytes.is_ascii() {
        return ascii(py, bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => PyBytes::new(py, bytes).into_any(),
    }
}

/// Copies what has been looked through already.
#[cfg(not(feature = "abi3"))]
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    const LAST_ASCII: ffi::Py_UCS4 = 127;
    // SAFETY: attached. A new string of so many bytes, which is shared once it has been returned;
    // the one character of a short one may be shared already, and is not written to.
    unsafe {
        if bytes.len() > 1 {
            let text = ffi::PyUnicode_New(bytes.len().cast_signed(), LAST_ASCII);
            if !text.is_null() {
                let data = ffi::PyUnicode_1BYTE_DATA(text);
                data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                return Bound::from_owned_ptr(py, text);
            }
            ffi::PyErr_Clear();
        }
        PyString::new(py, std::str::from_utf8_unchecked(bytes)).into_any()
    }
}

#[cfg(feature = "abi3")]
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    // SAFETY: ASCII is UTF-8.
    PyString::new(py, unsafe { std::str::from_utf8_unchecked(bytes) }).into_any()
}
