//! Which way a reply goes: as terms, or in the external term format. Called by `convert` on
//! workers, attached.

use pyo3::ffi;
use pyo3::prelude::*;

/// Smaller ones are built in the reply.
const MIN_LENGTH: isize = 32;
/// Containers in containers that are looked into, to judge by.
const MAX_LOOK: usize = 8;

/// Text or maps in it, and not too few: numbers are built faster in the reply. Judged by the first
/// of each kind.
pub(crate) fn is_worthwhile(object: &Bound<'_, PyAny>) -> bool {
    let (mut object, mut length) = (object.as_ptr(), 1);
    for _ in 0..MAX_LOOK {
        // SAFETY: attached; the type is checked before each access, and the first is asked for if
        // there is one. Nothing runs meanwhile that could free it.
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
        // SAFETY: as above.
        object = unsafe { first(object, 0) };
    }
    false
}

type Getter = unsafe extern "C" fn(*mut ffi::PyObject, isize) -> *mut ffi::PyObject;
