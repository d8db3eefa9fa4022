//! Python's objects at the C level. The default build uses macros without checks; the limited API has
//! functions only, which check the type again. Called attached, by readers and writers; nothing here
//! runs code of a program or blocks.

use once_cell::sync::Lazy;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::ffi::c_void;
use std::mem;

/// The least size of a dict that is made for its size. A smaller dict grows only once or twice; and a
/// dict that is made for its size has no table for text keys, which finds them faster
/// (`_PyDict_NewPresized`, from CPython 3.11 on).
const MIN_PRESIZED: usize = 64;

type Maker = unsafe extern "C" fn(isize) -> *mut ffi::PyObject;

/// `_PyDict_NewPresized`, which is private, but exported by every Python so far.
static PRESIZED: Lazy<Option<Maker>> = Lazy::new(|| {
    // SAFETY: looks up a symbol, by a NUL-terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyDict_NewPresized".as_ptr()) };
    // SAFETY: the function has this signature in all versions.
    (!found.is_null()).then(|| unsafe { mem::transmute::<*mut c_void, Maker>(found) })
});

/// Makes an empty dict with memory for `size` entries, so that its table is not copied as it grows.
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

/// Returns the length of a list.
///
/// # Safety
/// Attached, and a `list`.
pub(crate) unsafe fn list_size(list: *mut ffi::PyObject) -> isize {
    // SAFETY: attached, and a `list`, by the contract above.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyList_GET_SIZE(list);
        #[cfg(feature = "abi3")]
        ffi::PyList_Size(list)
    }
}

/// Returns an item of a list, as a reference that is borrowed from the list.
///
/// # Safety
/// Attached, a `list`, and an index in it.
pub(crate) unsafe fn list_item(list: *mut ffi::PyObject, index: isize) -> *mut ffi::PyObject {
    // SAFETY: attached, a `list`, and an index in it, by the contract above.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyList_GET_ITEM(list, index);
        #[cfg(feature = "abi3")]
        ffi::PyList_GetItem(list, index)
    }
}

/// Sets an item of a new list, and takes the reference to `item`.
///
/// # Safety
/// Attached, a new `list`, and an index in it that is set once.
pub(crate) unsafe fn set_list_item(
    list: *mut ffi::PyObject,
    index: isize,
    item: *mut ffi::PyObject,
) {
    // SAFETY: attached, a new `list`, and an index in it, by the contract above.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        ffi::PyList_SET_ITEM(list, index, item);
        #[cfg(feature = "abi3")]
        ffi::PyList_SetItem(list, index, item);
    }
}

/// Returns an element of a tuple, as a reference that is borrowed from the tuple.
///
/// # Safety
/// Attached, a `tuple`, and an index in it.
pub(crate) unsafe fn tuple_item(tuple: *mut ffi::PyObject, index: isize) -> *mut ffi::PyObject {
    // SAFETY: attached, a `tuple`, and an index in it, by the contract above.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyTuple_GET_ITEM(tuple, index);
        #[cfg(feature = "abi3")]
        ffi::PyTuple_GetItem(tuple, index)
    }
}

/// Returns the value of a float.
///
/// # Safety
/// Attached, and a `float`.
pub(crate) unsafe fn float_value(number: *mut ffi::PyObject) -> f64 {
    // SAFETY: attached, and a `float`, by the contract above.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyFloat_AS_DOUBLE(number);
        #[cfg(feature = "abi3")]
        ffi::PyFloat_AsDouble(number)
    }
}

/// Returns the name of the type of an object, for the text of an error. Reads the field of the C
/// structure, since a class may override every attribute.
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
