//! The parts of the walk that are rare, or make Python objects on the way. Called by the walk,
//! attached, with an object that is held. A garbage collection may run here.

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
    /// # Safety
    /// Attached, and a live object.
    #[cold]
    pub(super) unsafe fn check(&mut self, object: *mut ffi::PyObject) -> Written {
        if self.terms > MAX_TERMS {
            // SAFETY: the caller's.
            let object = unsafe { self.hold(object) };
            return unconvertible(Why::TooLarge, type_name(&object));
        }
        self.next_check = (self.terms + CHECK_INTERVAL).min(MAX_TERMS + 1);
        if (self.must_stop)() {
            return Err(Error::Interrupted.into());
        }
        Ok(())
    }

    /// # Safety
    /// Attached, and a live `int`.
    pub(super) unsafe fn integer(&mut self, number: *mut ffi::PyObject) -> Written {
        let mut overflow = 0;
        // SAFETY: an int: no conversion is called.
        unsafe {
            let small = ffi::PyLong_AsLongLongAndOverflow(number, &mut overflow);
            if overflow == 0 {
                self.writer.integer(small)
            } else {
                self.big_integer(&self.hold(number), overflow < 0)
            }
        }
    }

    /// Writes an object of any other type than those of the walk itself.
    pub(super) fn rare(&mut self, object: &Bound<'py, PyAny>) -> Written {
        if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
            // SAFETY: attached, and held.
            unsafe { self.within(object.as_ptr(), |walk| walk.set(object)) }
        } else if let Ok(array) = object.cast::<PyByteArray>() {
            // SAFETY: nothing runs that could change the array while its bytes are copied.
            self.binary(unsafe { array.as_bytes() }, None)
        } else if object.is_instance_of::<PyMemoryView>() {
            let bytes = object.call_method0(intern!(object.py(), "tobytes"))?;
            let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
            self.binary(bytes.as_bytes(), None)
        } else if let Ok(term) = object.cast::<Term>() {
            self.writer.opaque(term.get())
        } else {
            self.writer.object(object)
        }
    }

    fn set(&mut self, set: &Bound<'py, PyAny>) -> Written {
        // A subclass may override iteration: the base class's own is asked.
        let py = set.py();
        let class = if set.is_instance_of::<PySet>() {
            py.get_type::<PySet>()
        } else {
            py.get_type::<PyFrozenSet>()
        };
        let items = PyList::empty(py);
        let own = class.call_method1(intern!(py, "__iter__"), (set,))?;
        items.call_method1(intern!(py, "extend"), (own,))?;
        // SAFETY: a list that is held here.
        unsafe { self.list(items.as_ptr()) }
    }

    #[cold]
    pub(super) fn big_integer(&mut self, number: &Bound<'py, PyAny>, negative: bool) -> Written {
        let digits = magnitude(number)?;
        let digits = digits.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
        // A big integer stands on the heap of the BEAM, among the other terms.
        self.terms += digits.len() / LIST_CELL;
        self.writer.big_integer(negative, digits)
    }

    /// The error of a text with lone surrogates, which Python has just raised.
    #[cold]
    pub(super) fn surrogates(&self, text: &Bound<'py, PyAny>) -> Stop {
        // SAFETY: attached.
        unsafe { ffi::PyErr_Clear() };
        let text = text.cast::<PyString>().map(|text| text.to_string_lossy());
        Error::unconvertible(Why::NotUnicode, text.unwrap_or_default()).into()
    }
}

/// The little-endian magnitude of an integer, as `bytes`.
fn magnitude<'py>(number: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Stop> {
    let py = number.py();
    // Subclasses may override these: the methods of `int` itself are called.
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
