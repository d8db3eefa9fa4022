//! Tuples that become other objects: arrays of numpy, and those that a program has a decoder for. Called
//! attached, by `read`; numpy is imported, and a decoder is code of a program, which may do anything.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::{Fallible, Kind, Read, Reader};
use crate::view;

impl<'py, R: Reader> Read<'_, 'py, R> {
    /// Reads the map of `{ndarray, #{dtype, shape, data}}`: a read-only array over the bytes of the binary
    /// `data`. Another map of three entries makes the tuple of the atom and the map.
    pub(super) fn array(&mut self) -> Fallible<Bound<'py, PyAny>> {
        let py = self.py;
        let mut entries = self.reader.open_map()?;
        let dict = PyDict::new(py);
        while self.reader.next_key(&mut entries) {
            let key = self.value()?;
            self.reader.next_entry_value(&mut entries);
            let is_data = key.eq("data")? && matches!(self.reader.kind()?, Kind::Bits);
            let value = if is_data {
                view::over(py, self.reader.held_binary()?)?
            } else {
                self.value()?
            };
            dict.set_item(key, value)?;
        }
        let part = |name| dict.get_item(name);
        let parts = (
            part(intern!(py, "dtype"))?,
            part(intern!(py, "shape"))?,
            part(intern!(py, "data"))?,
        );
        let (Some(dtype), Some(shape), Some(data)) = parts else {
            return Ok(
                PyTuple::new(py, [PyString::new(py, "ndarray").as_any(), dict.as_any()])?
                    .into_any(),
            );
        };
        Ok(array_over(&dtype, &shape, &data)?)
    }

    /// Returns the decoder of a tuple with this tag, if there is one.
    pub(super) fn decoder(
        &mut self,
        tag: &Bound<'py, PyAny>,
    ) -> Fallible<Option<Bound<'py, PyAny>>> {
        let (py, rules) = (self.py, self.rules);
        match self.decoders.get_or_insert_with(|| rules.decoders(py)) {
            Some(decoders) => Ok(decoders.get_item(tag)?),
            None => Ok(None),
        }
    }

    /// Returns what a decoder makes of the elements after the tag.
    pub(super) fn decoded(
        &self,
        decoder: &Bound<'py, PyAny>,
        elements: Vec<Bound<'py, PyAny>>,
    ) -> Fallible<Bound<'py, PyAny>> {
        Ok(decoder.call1(PyTuple::new(self.py, elements)?)?)
    }
}

/// Makes an array of numpy over a buffer.
fn array_over<'py>(
    dtype: &Bound<'py, PyAny>,
    shape: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = dtype.py();
    let numpy = py.import(intern!(py, "numpy"))?;
    let dtype = numpy.call_method1(intern!(py, "dtype"), (dtype,))?;
    if dtype.getattr(intern!(py, "hasobject"))?.is_truthy()? {
        // The bytes would be taken for addresses.
        return Err(PyValueError::new_err(
            "an ndarray of objects cannot be made of bytes",
        ));
    }
    let shape = match shape.cast::<PyList>() {
        Ok(list) => list.to_tuple().into_any(),
        Err(_) => shape.clone(),
    };
    let array = numpy.call_method1(intern!(py, "ndarray"), (shape, dtype, data))?;
    let size: usize = array.getattr(intern!(py, "nbytes"))?.extract()?;
    if size != data.len()? {
        return Err(PyValueError::new_err(
            "the data of an ndarray has another size than its shape",
        ));
    }
    Ok(array)
}
