//! The bytes of a binary as `str`, or as `bytes` if they are no UTF-8. Called by `read`, attached; runs
//! no code of a program and blocks on nothing.

use pyo3::ffi;
use pyo3::prelude::*;

/// Makes the object of a binary. Fails without memory.
pub(crate) fn of_binary<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if bytes.is_ascii() {
        return ascii(py, bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => new_text(py, text),
        Err(_) => new_bytes(py, bytes),
    }
}

/// Makes a `bytes`. Fails without memory, where the function of PyO3 panics.
pub(crate) fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let is_huge = bytes.len() >= MIN_HUGE;
    let source = if is_huge {
        std::ptr::null()
    } else {
        bytes.as_ptr().cast()
    };
    // SAFETY: attached; a new object of this many bytes, which no other code has seen and which is filled if
    // that was not done, or null with an exception set.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(source, bytes.len().cast_signed());
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        if is_huge {
            fill(ffi::PyBytes_AsString(made.as_ptr()).cast(), bytes);
        }
        Ok(made)
    }
}

/// Makes a `str`. Fails without memory, where the function of PyO3 panics.
fn new_text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; a new object of the text, or null with an exception set.
    unsafe {
        let (data, size) = (text.as_ptr().cast(), text.len().cast_signed());
        Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromStringAndSize(data, size))
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

/// Makes a `str` of ASCII bytes, which Python would check once more.
#[cfg(not(feature = "abi3"))]
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    const LAST_ASCII: ffi::Py_UCS4 = 127;
    // SAFETY: attached; a new string of this many bytes, which no other code has seen, or null with an
    // exception set. A string of one character may be shared, and is not written to. ASCII is UTF-8.
    unsafe {
        if bytes.len() > 1 {
            let text = ffi::PyUnicode_New(bytes.len().cast_signed(), LAST_ASCII);
            let text = Bound::from_owned_ptr_or_err(py, text)?;
            fill(ffi::PyUnicode_1BYTE_DATA(text.as_ptr()), bytes);
            return Ok(text);
        }
        new_text(py, std::str::from_utf8_unchecked(bytes))
    }
}

/// Makes a `str` of ASCII bytes.
#[cfg(feature = "abi3")]
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: ASCII is UTF-8.
    new_text(py, unsafe { std::str::from_utf8_unchecked(bytes) })
}
