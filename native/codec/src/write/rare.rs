//! The conversions that are rare, or make Python objects. Called by the walk, attached, with an object
//! that is held. A garbage collection, and so any finalizer, may run here.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyFrozenSet, PyInt, PyList, PyMemoryView, PySet, PyString,
};

use super::{Walk, Writer, Written, unconvertible};
use crate::error::{Error, Stop, Why};
use crate::limits::{CHECK_INTERVAL, LIST_CELL, MAX_INTEGER, MAX_TERMS};
use crate::opaque::Term;
use crate::python_ffi::type_name;

impl<'py, W: Writer> Walk<'_, 'py, W> {
    /// Checks the limit of terms, and calls `must_stop`.
    ///
    /// # Safety
    /// Attached, and a live object.
    #[cold]
    pub(super) unsafe fn check(&mut self, object: *mut ffi::PyObject) -> Written {
        if self.terms > MAX_TERMS {
            // SAFETY: attached, and a live object, by the contract above.
            let object = unsafe { self.hold(object) };
            return unconvertible(Why::TooLarge, type_name(&object));
        }
        self.next_check = (self.terms + CHECK_INTERVAL).min(MAX_TERMS + 1);
        if self.rules.must_stop() {
            return Err(Error::Interrupted.into());
        }
        Ok(())
    }

    /// Writes an integer of a subclass of `int`, or one that is no `i64`.
    ///
    /// # Safety
    /// Attached, and a live `int`.
    pub(super) unsafe fn integer(&mut self, number: *mut ffi::PyObject) -> Written {
        let mut overflow = 0;
        // SAFETY: an int, so its `__index__` is not called.
        unsafe {
            let small = ffi::PyLong_AsLongLongAndOverflow(number, &mut overflow);
            if overflow == 0 {
                self.writer.integer(small)
            } else {
                self.big_integer(&self.hold(number), overflow < 0)
            }
        }
    }

    /// Writes an object of a type that the walk itself does not convert.
    pub(super) fn rare(&mut self, object: &Bound<'py, PyAny>) -> Written {
        if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
            // SAFETY: attached, and `object` is held by the caller.
            unsafe { self.within(object.as_ptr(), |walk| walk.set(object)) }
        } else if let Ok(array) = object.cast::<PyByteArray>() {
            // SAFETY: no code that could change the array runs while its bytes are copied.
            self.binary(unsafe { array.as_bytes() }, None)
        } else if object.is_instance_of::<PyMemoryView>() {
            let bytes = object.call_method0(intern!(object.py(), "tobytes"))?;
            let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
            self.binary(bytes.as_bytes(), None)
        } else if let Ok(term) = object.cast::<Term>() {
            self.writer.opaque(term.get())
        } else {
            self.known(object)
        }
    }

    /// Writes a set as a list.
    fn set(&mut self, set: &Bound<'py, PyAny>) -> Written {
        // A subclass may override `__iter__`: that of the base class is called.
        let py = set.py();
        let class = if set.is_instance_of::<PySet>() {
            py.get_type::<PySet>()
        } else {
            py.get_type::<PyFrozenSet>()
        };
        let items = PyList::empty(py);
        let iterator = class.call_method1(intern!(py, "__iter__"), (set,))?;
        items.call_method1(intern!(py, "extend"), (iterator,))?;
        // SAFETY: attached, and a list that `items` holds.
        unsafe { self.list(items.as_ptr()) }
    }

    /// Writes an integer that is no `i64`.
    #[cold]
    pub(super) fn big_integer(&mut self, number: &Bound<'py, PyAny>, negative: bool) -> Written {
        let digits = magnitude(number)?;
        let digits = digits.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
        // A big integer takes memory on the heap of the BEAM, as other terms do.
        self.terms += digits.len() / LIST_CELL;
        self.writer.big_integer(negative, digits)
    }

    /// Makes the error of a text with lone surrogates, and clears the exception that Python has set.
    #[cold]
    pub(super) fn surrogates(&self, text: &Bound<'py, PyAny>) -> Stop {
        // SAFETY: attached, and no argument.
        unsafe { ffi::PyErr_Clear() };
        let text = text.cast::<PyString>().map(|text| text.to_string_lossy());
        Error::unconvertible(Why::NotUnicode, text.unwrap_or_default()).into()
    }
}

/// Returns the little-endian magnitude of an integer, as `bytes`.
fn magnitude<'py>(number: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Stop> {
    let py = number.py();
    // A subclass may override these methods: those of `int` are called.
    let int = py.get_type::<PyInt>();
    let magnitude = int.call_method1(intern!(py, "__abs__"), (number,))?;
    let bits: usize = int
        .call_method1(intern!(py, "bit_length"), (number,))?
        .extract()?;
    let size = bits.div_ceil(8);
    if size > MAX_INTEGER {
        return unconvertible(Why::TooLarge, "int");
    }
    let little = intern!(py, "little");
    Ok(int.call_method1(intern!(py, "to_bytes"), (magnitude, size, little))?)
}
