//! Python's containers at the C level, as fast as the build can: the limited API has functions only,
//! which check what is known here. Runs on workers, attached.

use once_cell::sync::Lazy;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::c_void;
use std::{mem, ptr};

/// Smaller ones grow once or twice only. And a dict that is made for its size is not made for
/// text as keys, which finds them faster (`_PyDict_NewPresized`, from CPython 3.11 on).
const MIN_PRESIZED: usize = 64;

type Maker = unsafe extern "C" fn(isize) -> *mut ffi::PyObject;

/// Private, but every Python so far exports it.
static PRESIZED: Lazy<Option<Maker>> = Lazy::new(|| {
    // SAFETY: asks for a symbol of the Python that was made global.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyDict_NewPresized".as_ptr()) };
    // SAFETY: that function has this signature in all versions.
    (!found.is_null()).then(|| unsafe { mem::transmute::<*mut c_void, Maker>(found) })
});

/// An empty dict with room for so many entries: else it would be copied each time it has doubled.
pub(super) fn new_dict(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyDict>> {
    match *PRESIZED {
        // SAFETY: attached; a new dict, or null with an exception set.
        Some(make) if size >= MIN_PRESIZED => unsafe {
            let dict = Bound::from_owned_ptr_or_err(py, make(size.cast_signed()))?;
            Ok(dict.cast_into_unchecked())
        },
        _ => Ok(PyDict::new(py)),
    }
}

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
