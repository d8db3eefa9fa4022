//! Encoders: functions of a program that convert the objects of a class. Called by the walk, attached; an
//! encoder is code of a program, and may do anything.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Walk, Writer, Written};

impl<'py, W: Writer> Walk<'_, 'py, W> {
    /// Writes what the encoder of the object's class returns. `None`, and nothing is written, if there is
    /// none: classes of the language itself have none.
    ///
    /// # Safety
    /// Attached, and a live object.
    #[inline(always)]
    pub(super) unsafe fn put_custom(&mut self, object: *mut ffi::PyObject) -> Option<Written> {
        if matches!(self.custom, Some(None)) {
            return None;
        }
        // SAFETY: attached, and a live object, by the contract of the caller.
        unsafe { self.find_custom(object) }
    }

    /// Looks for an encoder.
    ///
    /// # Safety
    /// Attached, and a live object.
    unsafe fn find_custom(&mut self, object: *mut ffi::PyObject) -> Option<Written> {
        // SAFETY: attached, and a live object, by the contract of the caller.
        let is_plain = unsafe {
            ffi::PyList_CheckExact(object) != 0
                || ffi::PyTuple_CheckExact(object) != 0
                || ffi::PyDict_CheckExact(object) != 0
                || ffi::PyBytes_CheckExact(object) != 0
                || ffi::PyLong_CheckExact(object) != 0
        };
        if is_plain {
            return None;
        }
        let (py, rules) = (self.py, self.rules);
        // SAFETY: attached, and a live object, by the contract of the caller.
        let object = unsafe { self.hold(object) };
        let encoders = self
            .custom
            .get_or_insert_with(|| rules.encoders(py))
            .clone()?;
        match encoder(&object, &encoders) {
            Ok(encoder) => encoder.map(|encoder| self.encoded(&object, &encoder)),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Writes what an encoder returns. An encoder that returns the object itself is a cycle.
    fn encoded(&mut self, object: &Bound<'py, PyAny>, encoder: &Bound<'py, PyAny>) -> Written {
        let made = encoder.call1((object,))?;
        self.made_within(object, &made)
    }
}

/// Returns the encoder of the class of an object, or else of the nearest class that it inherits from.
fn encoder<'py>(
    object: &Bound<'py, PyAny>,
    encoders: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mro = object.get_type().getattr(intern!(object.py(), "__mro__"))?;
    for class in mro.cast::<PyTuple>()?.iter() {
        if let Some(encoder) = encoders.get_item(class)? {
            return Ok(Some(encoder));
        }
    }
    Ok(None)
}
