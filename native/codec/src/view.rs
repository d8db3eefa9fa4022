//! `{view, Binary}`: a read-only memoryview over the bytes of a [`ByteOwner`]. Called by `read`,
//! attached; blocks on nothing. The owner is dropped on the thread that drops the last view.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ffi::c_int;

/// Keeps bytes alive and at the same address, as long as the owner lives.
pub trait ByteOwner: Send + Sync {
    /// Returns the same immutable bytes at each call.
    fn bytes(&self) -> &[u8];
}

impl ByteOwner for Box<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Makes a memoryview over the bytes of `owner`.
pub(crate) fn over<'py>(py: Python<'py>, owner: Box<dyn ByteOwner>) -> PyResult<Bound<'py, PyAny>> {
    let exporter = Bound::new(py, BinaryView { owner })?;
    Ok(PyMemoryView::from(exporter.as_any())?.into_any())
}

/// Whether an object is the exporter of such a memoryview.
pub(crate) fn is_binary(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<BinaryView>()
}

/// The exporter behind the memoryview.
#[pyclass(frozen, module = "erlang")]
struct BinaryView {
    owner: Box<dyn ByteOwner>,
}

#[pymethods]
impl BinaryView {
    /// Fills a buffer, once for each view.
    ///
    /// # Safety
    /// Called by the interpreter, with a valid `view`.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = slf.get().owner.bytes();
        let (data, size) = (bytes.as_ptr().cast_mut().cast(), bytes.len().cast_signed());
        let read_only = 1;
        // SAFETY: the memory lives as long as `slf`, to which the buffer holds a reference.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, size, read_only, flags) };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
