//! `{view, Binary}`: a read-only memoryview over a binary of the BEAM. Runs on workers, attached.

use pyo3::prelude::*;
#[cfg(feature = "abi3")]
use pyo3::types::PyBytes;
use pyo3::types::PyMemoryView;
use rustler::sys;
use rustler::{OwnedEnv, Term};
use std::mem::MaybeUninit;

use crate::error::{Error, Why};

pub(super) fn over<'py>(py: Python<'py>, term: Term<'_>) -> Result<Bound<'py, PyAny>, Error> {
    let view = BinaryView::hold(term).ok_or(Error::unconvertible(Why::TooLarge, "view"))?;
    Ok(PyMemoryView::from(&view.exporter(py)?)?.into_any())
}

/// A binary of the BEAM, kept alive in an environment of its own for as long as Python looks at
/// it; big binaries are shared, not copied.
#[pyclass(frozen, module = "erlang")]
pub(crate) struct BinaryView {
    /// Owns the memory that `data` points to.
    _env: OwnedEnv,
    data: *const u8,
    size: usize,
}

// SAFETY: the binary is immutable, and its environment is not touched again before it is freed.
unsafe impl Send for BinaryView {}
// SAFETY: as above; only reads of immutable bytes are shared.
unsafe impl Sync for BinaryView {}

impl BinaryView {
    fn hold(term: Term<'_>) -> Option<Self> {
        let env = OwnedEnv::new();
        let (data, size) = env.run(|held| {
            let mut binary = MaybeUninit::uninit();
            let copy = term.in_env(held);
            // SAFETY: `copy` is a term of `held`, and `binary` is written when 1 is returned.
            let found = unsafe {
                sys::enif_inspect_binary(held.as_c_arg(), copy.as_c_arg(), binary.as_mut_ptr())
            };
            // SAFETY: initialised by the successful call above.
            (found == 1)
                .then(|| unsafe { binary.assume_init() })
                .map(|b| (b.data, b.size))
        })?;
        Some(Self {
            _env: env,
            data,
            size,
        })
    }

    /// The limited API of 3.10 has no buffer protocol for our own types: the portable build
    /// shows a copy.
    #[cfg(feature = "abi3")]
    #[allow(clippy::unnecessary_wraps, reason = "the other build's can fail")]
    fn exporter(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        // SAFETY: `data` and `size` describe a live binary held by `_env`.
        let bytes = unsafe { std::slice::from_raw_parts(self.data, self.size) };
        Ok(PyBytes::new(py, bytes).into_any())
    }

    #[cfg(not(feature = "abi3"))]
    fn exporter(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, self)?.into_any())
    }
}

#[cfg(not(feature = "abi3"))]
#[pymethods]
impl BinaryView {
    /// # Safety
    /// Called by the interpreter, with a valid `view`.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut pyo3::ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let (data, size) = (this.data.cast_mut().cast(), this.size.cast_signed());
        let read_only = 1;
        // SAFETY: the memory lives as long as `slf`, which the buffer keeps alive.
        let filled = unsafe {
            pyo3::ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, size, read_only, flags)
        };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
