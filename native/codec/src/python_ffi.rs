//! Python's objects at the C level, as fast as the build can: the limited API has functions only,
//! which check what is known here. Called attached; nothing here runs code of a program.

use once_cell::sync::Lazy;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::ffi::c_void;
use std::mem;

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

/// An empty dict with memory for `size` entries: else it would be copied each time it has doubled.
pub(crate) fn new_dict(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyDict>> {
    match *PRESIZED {
        // SAFETY: attached; a new dict, or null with an exception set.
        Some(make) if size >= MIN_PRESIZED => unsafe {
            let dict = Bound::from_owned_ptr_or_err(py, make(size.cast_signed()))?;
            Ok(dict.cast_into_unchecked())
        },
        _ => Ok(PyDict::new(py)),
    }
}

/// # Safety
/// Attached, and a `list`.
pub(crate) unsafe fn list_size(list: *mut ffi::PyObject) -> isize {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyList_GET_SIZE(list);
        #[cfg(feature = "abi3")]
        ffi::PyList_Size(list)
    }
}

/// # Safety
/// Attached, a `list`, and an index in it. The reference is borrowed from the list.
pub(crate) unsafe fn list_item(list: *mut ffi::PyObject, index: isize) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyList_GET_ITEM(list, index);
        #[cfg(feature = "abi3")]
        ffi::PyList_GetItem(list, index)
    }
}

/// # Safety
/// Attached, a new `list`, and an index in it that is set once. Takes the reference to `item`.
pub(crate) unsafe fn set_list_item(
    list: *mut ffi::PyObject,
    index: isize,
    item: *mut ffi::PyObject,
) {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        ffi::PyList_SET_ITEM(list, index, item);
        #[cfg(feature = "abi3")]
        ffi::PyList_SetItem(list, index, item);
    }
}

/// # Safety
/// Attached, a `tuple`, and an index in it. The reference is borrowed from the tuple.
pub(crate) unsafe fn tuple_item(tuple: *mut ffi::PyObject, index: isize) -> *mut ffi::PyObject {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyTuple_GET_ITEM(tuple, index);
        #[cfg(feature = "abi3")]
        ffi::PyTuple_GetItem(tuple, index)
    }
}

/// # Safety
/// Attached, and a `float`.
pub(crate) unsafe fn float_value(number: *mut ffi::PyObject) -> f64 {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyFloat_AS_DOUBLE(number);
        #[cfg(feature = "abi3")]
        ffi::PyFloat_AsDouble(number)
    }
}

/// The name of the type of an object, for a person to read. Reads what C code keeps: a class may
/// override every attribute.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    const MAX_CHARACTERS: usize = 200;
    // SAFETY: attached, and a class; a new reference, or null with an exception set.
    let name = unsafe {
        let name = ffi::PyType_GetQualName(object.get_type().as_type_ptr());
        Bound::from_owned_ptr_or_err(object.py(), name)
    };
    let name = name.map(|name| name.cast_into::<PyString>());
    match name {
        Ok(Ok(name)) => {
            let name = name.to_string_lossy();
            name.chars().take(MAX_CHARACTERS).collect()
        }
        _ => "object".to_owned(),
    }
}
