//! Arrays of numpy, as nested lists or as their bytes. Called by the walk, attached, with an array that is
//! held; numpy is not imported here. Methods of the array run, which a subclass may override.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyString};
use std::slice;

use super::{Keys, Walk, Writer, Written, unconvertible};
use crate::error::Why;
use crate::limits::MAX_TERMS;
use crate::view;

/// Most arrays that an array is looked through: numpy itself makes no longer chains than two.
const MAX_BASES: usize = 16;

impl<'py, W: Writer> Walk<'_, 'py, W> {
    /// Writes an array in the form that the rules want.
    pub(super) fn array(&mut self, array: &Bound<'py, PyAny>) -> Written {
        let py = array.py();
        let shape: Vec<usize> = array.getattr(intern!(py, "shape"))?.extract()?;
        if self.rules.form().binary_arrays {
            let dtype = array.getattr(intern!(py, "dtype"))?;
            let has_objects = dtype.getattr(intern!(py, "hasobject"))?.is_truthy()?;
            let is_record = !dtype.getattr(intern!(py, "names"))?.is_none();
            if !has_objects && !is_record {
                let name = dtype.getattr(intern!(py, "str"))?;
                return self.array_bytes(
                    array,
                    name.cast::<PyString>().map_err(PyErr::from)?,
                    &shape,
                );
            }
        }
        // Looked at first: `tolist` makes an object of each element, and of each empty list.
        let mut lists = 1_usize;
        let sum = shape.iter().fold(0_usize, |sum, size| {
            lists = lists.saturating_mul(*size);
            sum.saturating_add(lists)
        });
        if sum.saturating_add(self.terms) > MAX_TERMS {
            return unconvertible(Why::TooLarge, "ndarray");
        }
        let items = array.call_method0(intern!(py, "tolist"))?;
        self.made_within(array, &items)
    }

    /// Writes `{ndarray, #{dtype, shape, data}}`.
    fn array_bytes(
        &mut self,
        array: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyString>,
        shape: &[usize],
    ) -> Written {
        self.writer.begin_tuple(2)?;
        self.writer.atom("ndarray")?;
        self.writer.begin_map(3)?;
        self.writer.atom("dtype")?;
        self.writer.binary(dtype.to_str()?.as_bytes(), None)?;
        self.writer.atom("shape")?;
        self.writer.begin_tuple(shape.len())?;
        for size in shape {
            self.writer
                .integer(i64::try_from(*size).unwrap_or(i64::MAX))?;
        }
        self.writer.end_tuple(shape.len())?;
        self.writer.atom("data")?;
        self.data(array)?;
        self.writer.end_map(3, Keys::Distinct)?;
        self.writer.end_tuple(2)
    }

    /// Writes the bytes of an array, in the order of C. Those of an array that nothing can write to are
    /// not copied.
    fn data(&mut self, array: &Bound<'py, PyAny>) -> Written {
        let py = array.py();
        // Dates have no buffer. The memoryview keeps the memory in place.
        if is_constant(array)?
            && let Ok(view) = PyMemoryView::from(array)
            && let Ok(buffer) = PyUntypedBuffer::get(&view)
            && buffer.is_c_contiguous()
        {
            let bytes = if buffer.len_bytes() == 0 {
                &[][..]
            } else {
                // SAFETY: a contiguous buffer of this many bytes, which the memoryview keeps alive, and which
                // no code can change unless it makes the array writable.
                unsafe { slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
            };
            return self.binary(bytes, Some(view.as_any()));
        }
        let bytes = array.call_method0(intern!(py, "tobytes"))?;
        let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
        self.binary(bytes.as_bytes(), Some(bytes.as_any()))
    }
}

/// Whether no code can write to an array: to the array itself, the arrays that it is a view of, and what
/// they were made over.
fn is_constant(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = array.py();
    let mut owner = array.clone();
    for _ in 0..MAX_BASES {
        let flags = owner.getattr(intern!(py, "flags"))?;
        if flags.getattr(intern!(py, "writeable"))?.is_truthy()? {
            return Ok(false);
        }
        let base = owner.getattr(intern!(py, "base"))?;
        if base.is_none() {
            return flags.getattr(intern!(py, "owndata"))?.is_truthy();
        }
        if !base.hasattr(intern!(py, "flags"))? {
            return is_constant_buffer(&base);
        }
        owner = base;
    }
    Ok(false)
}

/// Whether an object that an array was made over never changes: `bytes`, or a binary of Erlang.
fn is_constant_buffer(base: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !base.is_instance_of::<PyMemoryView>() {
        return Ok(base.is_exact_instance_of::<PyBytes>());
    }
    let owner = base.getattr(intern!(base.py(), "obj"))?;
    Ok(owner.is_exact_instance_of::<PyBytes>() || view::is_binary(&owner))
}
