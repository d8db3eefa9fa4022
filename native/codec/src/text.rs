//! The bytes of a binary as `str`, or as `bytes` if they are no UTF-8. Called by `read`, attached; runs
//! no code of a program and blocks on nothing.

#[cfg(not(feature = "abi3"))]
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Makes the object of a binary.
pub(crate) fn of_binary<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    if bytes.is_ascii() {
        return ascii(py, bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => PyBytes::new(py, bytes).into_any(),
    }
}

/// Makes a `str` of ASCII bytes, which PyO3 would check once more.
#[cfg(not(feature = "abi3"))]
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    const LAST_ASCII: ffi::Py_UCS4 = 127;
    // SAFETY: attached; a new string of this many bytes, which no other code has seen. A string of one
    // character may be shared, and is not written to. ASCII is UTF-8.
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

/// Makes a `str` of ASCII bytes.
#[cfg(feature = "abi3")]
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    // SAFETY: ASCII is UTF-8.
    PyString::new(py, unsafe { std::str::from_utf8_unchecked(bytes) }).into_any()
}
