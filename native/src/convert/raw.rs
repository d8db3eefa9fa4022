//! Python's containers at the C level, as fast as the build can: the limited API has functions only,
//! which check what is known here. Runs on workers, attached.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ptr;

/// The entries of a dict as they are now.
pub(super) fn items<'py>(dict: &Bound<'py, PyDict>) -> Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let mut entries = Vec::with_capacity(dict.len());
    let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
    // SAFETY: attached, `dict` is a dict, and nothing here runs Python code between two steps.
    while unsafe { ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, &mut value) } != 0 {
        // SAFETY: PyDict_Next returned borrowed references to live objects.
        let (key, value) = unsafe {
            (
                Bound::from_borrowed_ptr(dict.py(), key),
                Bound::from_borrowed_ptr(dict.py(), value),
            )
        };
        entries.push((key, value));
    }
    entries
}

/// # Safety
/// Attached, a `list`, and an index in it.
pub(super) unsafe fn list_item(list: *mut ffi::PyObject, index: isize) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyList_GET_ITEM(list, index);
        #[cfg(feature = "abi3")]
        ffi::PyList_GetItem(list, index)
    }
}

/// # Safety
/// Attached, and a `float`.
pub(super) unsafe fn float_value(number: *mut ffi::PyObject) -> f64 {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyFloat_AS_DOUBLE(number);
        #[cfg(feature = "abi3")]
        ffi::PyFloat_AsDouble(number)
    }
}
