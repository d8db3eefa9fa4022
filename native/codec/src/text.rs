//! Bytes of a binary as `str`, or as `bytes` if they are no UTF-8. Called attached.

#[cfg(not(feature = "abi3"))]
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

pub(crate) fn of_binary<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
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
    // SAFETY: attached. A new string of that many bytes, which is shared once it has been returned;
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
