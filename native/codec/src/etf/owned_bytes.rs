//! The bytes of a Python object in a frame. Made attached, by the encoder; read and dropped on the thread that
//! sends the frame.

use pyo3::prelude::*;

/// The bytes of an object, which live and stay unchanged as long as the object.
pub(super) struct OwnedBytes {
    bytes: *const [u8],
    _owner: Py<PyAny>,
}

// SAFETY: the bytes are only read, and live as long as the object.
unsafe impl Send for OwnedBytes {}

impl AsRef<[u8]> for OwnedBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the object, which is alive, keeps the bytes alive and unchanged.
        unsafe { &*self.bytes }
    }
}

impl OwnedBytes {
    /// Takes bytes that lie in `owner`, and do not change.
    pub(super) fn new(bytes: &[u8], owner: &Bound<'_, PyAny>) -> Self {
        Self {
            bytes,
            _owner: owner.clone().unbind(),
        }
    }
}
