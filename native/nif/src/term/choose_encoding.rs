//! Chooses the encoding of a reply: terms, or the external term format. Called by `convert` on
//! workers and guests, attached; runs no Python code and blocks on nothing.

use pyo3::ffi;
use pyo3::prelude::*;

/// The number of texts or map entries from which encoding is faster than building terms.
const MIN_LENGTH: isize = 32;
/// How deep nested containers are looked into.
const MAX_LOOK: usize = 8;

/// Returns `true` if the object holds enough texts or map entries for the external term format to
/// be faster; numbers are built faster as terms. Looks at the first item of each nested container
/// only.
pub(crate) fn prefers_external(object: &Bound<'_, PyAny>) -> bool {
    let (mut object, mut length) = (object.as_ptr(), 1);
    for _ in 0..MAX_LOOK {
        // SAFETY: attached, `object` is alive, and its type is checked before its size is read.
        let (size, first) = unsafe {
            if ffi::PyList_Check(object) != 0 {
                (ffi::PyList_Size(object), ffi::PyList_GetItem as Getter)
            } else if ffi::PyTuple_Check(object) != 0 {
                (ffi::PyTuple_Size(object), ffi::PyTuple_GetItem as Getter)
            } else if ffi::PyDict_Check(object) != 0 {
                return length * ffi::PyDict_Size(object) >= MIN_LENGTH;
            } else {
                let is_text = ffi::PyUnicode_Check(object) | ffi::PyBytes_Check(object) != 0;
                return is_text && length >= MIN_LENGTH;
            }
        };
        if size == 0 {
            return false;
        }
        length = length.saturating_mul(size);
        // SAFETY: the container has an item 0, and keeps it alive: no code runs that could change
        // it.
        object = unsafe { first(object, 0) };
    }
    false
}

type Getter = unsafe extern "C" fn(*mut ffi::PyObject, isize) -> *mut ffi::PyObject;
