//! The bytes of a binary as `str`, or as `bytes` if they are no UTF-8. Called by `read`, attached; runs
//! no code of a program and blocks on nothing.

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
        Err(_) => new_bytes(py, bytes),
    }
}

/// Makes a `bytes`.
pub(crate) fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    if bytes.len() < MIN_HUGE {
        return PyBytes::new(py, bytes).into_any();
    }
    // SAFETY: attached; a new object of this many bytes, which no other code has seen.
    unsafe {
        let (none, size) = (std::ptr::null(), bytes.len().cast_signed());
        let made = ffi::PyBytes_FromStringAndSize(none, size);
        if made.is_null() {
            ffi::PyErr_Clear();
            return PyBytes::new(py, bytes).into_any();
        }
        fill(ffi::PyBytes_AsString(made).cast(), bytes);
        Bound::from_owned_ptr(py, made)
    }
}

/// The size from which memory is requested in huge pages, as numpy does: the kernel gives a page of 2 MiB
/// where it would give 512, each with a page fault, which take longer than the copy.
const MIN_HUGE: usize = 1 << 22;

/// Copies bytes into new memory of an object.
///
/// # Safety
/// There is room for as many bytes at `data`.
unsafe fn fill(data: *mut u8, bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    if bytes.len() >= MIN_HUGE {
        const PAGE: usize = 1 << 12;
        let skip = data.align_offset(PAGE);
        let length = (bytes.len() - skip) & !(PAGE - 1);
        // A failure changes nothing.
        // SAFETY: whole pages within the memory, for which the call is a hint.
        _ = unsafe { libc::madvise(data.add(skip).cast(), length, libc::MADV_HUGEPAGE) };
    }
    // SAFETY: as the caller says; new memory overlaps with none.
    unsafe { data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
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
                fill(ffi::PyUnicode_1BYTE_DATA(text), bytes);
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
