//! Python objects to terms: one walk over an object, which tells a [`Writer`] what it finds.
//! Called attached; blocks on nothing.
//!
//! Containers are read through the C level, and no code of a program is called. But the rare
//! conversions make Python objects, and so may the writer of an error: a garbage collection (up
//! to Python 3.11 at any such moment) runs finalizers, which may change any list or dict. So the
//! walk holds a reference to each container around the object at hand and to the entries of a
//! dict that are not plain, asks for the size of a list before each item, and holds an object
//! before it converts it by a way that makes others. All else is borrowed: nothing runs while it is
//! in use.

mod rare;
mod writer;

use pyo3::ffi;
use pyo3::prelude::*;
use std::{ptr, slice};

use crate::error::{Error, Stop, Why};
use crate::limits::{CHECK_INTERVAL, MAX_ARITY, MAX_BYTES, MAX_DEPTH};
use crate::python_ffi::{float_value, list_item, list_size, tuple_item, type_name};

pub use writer::{Keys, Writer, Written};

/// Writes `object`. Calls `must_stop` now and then, and ends with `Interrupted` if that returns
/// `true`. After an error the writer holds a part, and is of no use.
pub fn write<W: Writer>(
    object: &Bound<'_, PyAny>,
    writer: &mut W,
    must_stop: &dyn Fn() -> bool,
) -> Written {
    let mut walk = Walk {
        py: object.py(),
        writer,
        must_stop,
        path: Vec::new(),
        entries: Vec::new(),
        terms: 0,
        next_check: CHECK_INTERVAL,
        bytes: 0,
    };
    // SAFETY: attached, and an object that the caller holds.
    unsafe { walk.put(object.as_ptr()) }
}

struct Walk<'w, 'py, W> {
    py: Python<'py>,
    writer: &'w mut W,
    must_stop: &'w dyn Fn() -> bool,
    /// The containers around the object at hand, outermost first.
    path: Vec<Bound<'py, PyAny>>,
    /// Keys and values of these dicts that have not been written, outermost first.
    entries: Vec<Bound<'py, PyAny>>,
    terms: usize,
    /// The number of terms at which to look at the limits.
    next_check: usize,
    /// Bytes of the binaries so far.
    bytes: usize,
}

fn unconvertible<T>(why: Why, value: impl Into<String>) -> Result<T, Stop> {
    Err(Error::unconvertible(why, value).into())
}

impl<'py, W: Writer> Walk<'_, 'py, W> {
    /// # Safety
    /// Attached, and a live object: as the next four.
    #[inline(always)]
    unsafe fn put(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: the caller's.
        unsafe {
            match self.put_plain(object) {
                Some(written) => written,
                None => self.put_other(object),
            }
        }
    }

    /// Writes an object that is most often met: no code of a program runs, unless the walk fails.
    /// `None`, and nothing is written, for any other.
    #[inline(always)]
    unsafe fn put_plain(&mut self, object: *mut ffi::PyObject) -> Option<Written> {
        // SAFETY: the type is checked before each access.
        let written = unsafe {
            if ffi::PyLong_CheckExact(object) != 0 {
                let mut overflow = 0;
                let small = ffi::PyLong_AsLongLongAndOverflow(object, &mut overflow);
                if overflow != 0 {
                    return None;
                }
                self.writer.integer(small)
            } else if ffi::PyFloat_CheckExact(object) != 0 {
                self.writer.float(float_value(object))
            } else if ffi::PyUnicode_CheckExact(object) != 0 {
                self.text(object)
            } else if object == ffi::Py_True() {
                self.writer.boolean(true)
            } else if object == ffi::Py_False() {
                self.writer.boolean(false)
            } else if object == ffi::Py_None() {
                self.writer.none()
            } else {
                return None;
            }
        };
        // SAFETY: the caller's.
        Some(written.and_then(|()| unsafe { self.count(object) }))
    }

    /// Ordered by frequency. Only subclasses of the plain types are left, and integers that are too
    /// big.
    unsafe fn put_other(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: the type is checked before each access.
        unsafe {
            self.count(object)?;
            if ffi::PyList_Check(object) != 0 {
                self.within(object, |walk| walk.list(object))
            } else if ffi::PyTuple_Check(object) != 0 {
                self.within(object, |walk| walk.tuple(object))
            } else if ffi::PyDict_Check(object) != 0 {
                self.within(object, |walk| walk.dict(object))
            } else if ffi::PyBytes_Check(object) != 0 {
                let owner = Borrowed::from_ptr(self.py, object);
                let (data, size) = (ffi::PyBytes_AsString(object), ffi::PyBytes_Size(object));
                let bytes = slice::from_raw_parts(data.cast::<u8>(), size.cast_unsigned());
                self.binary(bytes, Some(&owner))
            } else if ffi::PyUnicode_Check(object) != 0 {
                self.text(object)
            } else if ffi::PyLong_Check(object) != 0 {
                self.integer(object)
            } else if ffi::PyFloat_Check(object) != 0 {
                self.writer.float(float_value(object))
            } else {
                self.rare(&self.hold(object))
            }
        }
    }

    unsafe fn hold(&self, object: *mut ffi::PyObject) -> Bound<'py, PyAny> {
        // SAFETY: the caller's.
        unsafe { Bound::from_borrowed_ptr(self.py, object) }
    }

    #[inline(always)]
    unsafe fn count(&mut self, object: *mut ffi::PyObject) -> Written {
        self.terms += 1;
        if self.terms < self.next_check {
            return Ok(());
        }
        // SAFETY: the caller's.
        unsafe { self.check(object) }
    }

    /// # Safety
    /// Attached, and a live `str`.
    unsafe fn text(&mut self, text: *mut ffi::PyObject) -> Written {
        let mut size = 0;
        // SAFETY: a str, in which the bytes stay. Nothing runs before a failure, and then the
        // exception holds the text.
        unsafe {
            let data = ffi::PyUnicode_AsUTF8AndSize(text, &mut size);
            if data.is_null() {
                return Err(self.surrogates(&self.hold(text)));
            }
            let bytes = slice::from_raw_parts(data.cast::<u8>(), size.cast_unsigned());
            let owner = Borrowed::from_ptr(self.py, text);
            self.binary(bytes, Some(&owner))
        }
    }

    /// Counts the bytes: one big object, found a million times in a list, is a million binaries.
    fn binary(&mut self, bytes: &[u8], owner: Option<&Bound<'py, PyAny>>) -> Written {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_BYTES {
            return unconvertible(Why::TooLarge, "bytes");
        }
        self.writer.binary(bytes, owner)
    }

    /// Writes the inside of a container: at most `MAX_DEPTH` of them around one object.
    ///
    /// # Safety
    /// Attached, and a live object.
    unsafe fn within(
        &mut self,
        container: *mut ffi::PyObject,
        inside: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        // SAFETY: the caller's.
        let held = unsafe { self.hold(container) };
        let is_it = |outer: &Bound<'_, PyAny>| outer.as_ptr() == container;
        if self.path.iter().any(is_it) {
            return unconvertible(Why::Cycle, type_name(&held));
        }
        if self.path.len() >= MAX_DEPTH {
            return unconvertible(Why::TooDeep, type_name(&held));
        }
        self.path.push(held);
        let written = inside(self);
        self.path.pop();
        written
    }

    /// # Safety
    /// Attached, and a `list` on the path: as the next two.
    unsafe fn list(&mut self, list: *mut ffi::PyObject) -> Written {
        // SAFETY: a list, whose size is asked for before each item.
        unsafe {
            self.writer.begin_list(list_size(list).cast_unsigned())?;
            let mut index = 0;
            while index < list_size(list) {
                self.put(list_item(list, index))?;
                index += 1;
            }
            self.writer.end_list(index.cast_unsigned())
        }
    }

    unsafe fn tuple(&mut self, tuple: *mut ffi::PyObject) -> Written {
        // SAFETY: a tuple, which nothing changes.
        let size = unsafe { ffi::PyTuple_Size(tuple) };
        let arity = size.cast_unsigned();
        if arity > MAX_ARITY {
            return unconvertible(Why::TooLarge, "tuple");
        }
        self.writer.begin_tuple(arity)?;
        for index in 0..size {
            // SAFETY: the index is in the tuple, which holds the item.
            unsafe { self.put(tuple_item(tuple, index))? };
        }
        self.writer.end_tuple(arity)
    }

    /// Entries are written at once while they are plain. The first object that is not, and all after
    /// it, are held before one of them is written: code that runs meanwhile may change the dict,
    /// which would be read in part, or twice.
    unsafe fn dict(&mut self, dict: *mut ffi::PyObject) -> Written {
        let first = self.entries.len();
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        let (mut size, mut keys) = (0, Keys::Distinct);
        // SAFETY: a dict, and nothing runs between two steps.
        unsafe {
            let expected = ffi::PyDict_Size(dict).cast_unsigned();
            self.writer.begin_map(expected)?;
            while ffi::PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
                if ffi::PyUnicode_CheckExact(key) == 0 && ffi::PyLong_CheckExact(key) == 0 {
                    keys = Keys::Unknown;
                }
                self.put_or_hold(key, first)?;
                self.put_or_hold(value, first)?;
                size += 1;
            }
        }
        for index in first..self.entries.len() {
            // SAFETY: held by `entries`, which the containers in it leave at this length.
            unsafe { self.put(self.entries[index].as_ptr())? };
        }
        self.entries.truncate(first);
        self.writer.end_map(size, keys)
    }

    /// Writes a plain object, unless one of the same dict is held: the entries from `first` on.
    #[inline(always)]
    unsafe fn put_or_hold(&mut self, object: *mut ffi::PyObject, first: usize) -> Written {
        // SAFETY: the caller's.
        unsafe {
            if self.entries.len() == first
                && let Some(written) = self.put_plain(object)
            {
                return written;
            }
            self.entries.push(self.hold(object));
        }
        Ok(())
    }
}
