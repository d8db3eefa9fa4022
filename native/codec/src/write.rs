//! Python objects to terms: one walk over an object, which calls a [`Writer`] for each part. Called by
//! the host, attached; blocks on nothing.
//!
//! Containers are read through the C level, and the walk calls no code of a program. But the rare
//! conversions make Python objects, as an error may: a garbage collection (up to Python 3.11 at any
//! allocation) runs finalizers, which may change any list or dict. So the walk holds a reference to
//! each container around the current object and to the entries of a dict that are not plain, reads the
//! size of a list before each item, and holds an object before a conversion that makes others. All
//! other references are borrowed: no code runs while they are in use.

mod array;
mod custom;
mod dict;
mod known;
mod rare;
mod writer;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::slice;

use crate::error::{Error, Step, Stop, Why};
use crate::limits::{CHECK_INTERVAL, MAX_ARITY, MAX_BYTES, MAX_DEPTH};
use crate::python_ffi::{float_value, list_item, list_size, tuple_item, type_name};
use crate::rules::{NoneAtom, Rules};

use known::Known;
pub use writer::{Keys, Writer, Written};

/// Writes `object`, in the form of `rules`. Calls their `must_stop` after each [`CHECK_INTERVAL`] terms,
/// and fails with `Interrupted` if that returns `true`. After an error the writer has a part of the
/// object, and must be dropped.
pub fn write<W: Writer>(object: &Bound<'_, PyAny>, writer: &mut W, rules: &dyn Rules) -> Written {
    let form = rules.form();
    if form.is_object {
        return writer.object(object);
    }
    let mut walk = Walk {
        py: object.py(),
        writer,
        rules,
        none: form.none.unwrap_or_default(),
        known: None,
        custom: None,
        path: Vec::new(),
        entries: Vec::new(),
        terms: 0,
        next_check: CHECK_INTERVAL,
        bytes: 0,
    };
    // SAFETY: attached, and an object that the caller holds.
    unsafe { walk.put(object.as_ptr()) }
}

/// The state of one walk.
struct Walk<'w, 'py, W> {
    py: Python<'py>,
    writer: &'w mut W,
    rules: &'w dyn Rules,
    none: NoneAtom,
    /// The class of the last object without a form of its own, and what is known of the class.
    known: Option<(Bound<'py, PyType>, Option<Known>)>,
    /// The encoders of the rules, once they were asked.
    custom: Option<Option<Bound<'py, PyDict>>>,
    /// The containers around the current object, outermost first.
    path: Vec<Bound<'py, PyAny>>,
    /// Keys and values of the dicts in `path` that are held until they are written, outermost first.
    entries: Vec<Bound<'py, PyAny>>,
    /// The terms written so far.
    terms: usize,
    /// The number of terms at which the next `check` runs.
    next_check: usize,
    /// Bytes of the binaries so far.
    bytes: usize,
}

fn unconvertible<T>(why: Why, value: impl Into<String>) -> Result<T, Stop> {
    Err(Error::unconvertible(why, value).into())
}

impl<'py, W: Writer> Walk<'_, 'py, W> {
    /// Writes an object.
    ///
    /// # Safety
    /// Attached, and a live object. The same holds for the next four functions.
    #[inline(always)]
    unsafe fn put(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: attached, and a live object, by the contract of the caller.
        unsafe {
            match self.put_plain(object) {
                Some(written) => written,
                None => self.put_other(object),
            }
        }
    }

    /// Writes an object of a frequent type, which runs no code of a program unless the walk fails.
    /// `None`, and nothing is written, for any other object.
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
                self.writer.none(self.none)
            } else {
                return None;
            }
        };
        // SAFETY: attached, and a live object, by the contract of the caller.
        Some(written.and_then(|()| unsafe { self.count(object) }))
    }

    /// Writes an object that `put_plain` has not written: containers by their frequency, subclasses of
    /// the plain types, and integers that are no `i64`.
    unsafe fn put_other(&mut self, object: *mut ffi::PyObject) -> Written {
        // SAFETY: the type is checked before each access.
        unsafe {
            self.count(object)?;
            if let Some(written) = self.put_custom(object) {
                written
            } else if ffi::PyList_Check(object) != 0 {
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

    /// Returns a reference of the walk's own to an object.
    unsafe fn hold(&self, object: *mut ffi::PyObject) -> Bound<'py, PyAny> {
        // SAFETY: attached, and a live object, by the contract of the caller.
        unsafe { Bound::from_borrowed_ptr(self.py, object) }
    }

    /// Counts a term, and checks the limits now and then.
    #[inline(always)]
    unsafe fn count(&mut self, object: *mut ffi::PyObject) -> Written {
        self.terms += 1;
        if self.terms < self.next_check {
            return Ok(());
        }
        // SAFETY: attached, and a live object, by the contract of the caller.
        unsafe { self.check(object) }
    }

    /// Writes a `str` as a binary.
    ///
    /// # Safety
    /// Attached, and a live `str`.
    unsafe fn text(&mut self, text: *mut ffi::PyObject) -> Written {
        let mut size = 0;
        // SAFETY: a str, which keeps the bytes. No code runs before a failure, and then the exception
        // holds the text.
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

    /// Writes a binary, and counts its bytes: one big object that a list has a million times is a
    /// million binaries.
    fn binary(&mut self, bytes: &[u8], owner: Option<&Bound<'py, PyAny>>) -> Written {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_BYTES {
            return unconvertible(Why::TooLarge, "bytes");
        }
        self.writer.binary(bytes, owner)
    }

    /// Writes the inside of a container, at most `MAX_DEPTH` deep, and holds the container meanwhile.
    ///
    /// # Safety
    /// Attached, and a live object.
    unsafe fn within(
        &mut self,
        container: *mut ffi::PyObject,
        inside: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        // SAFETY: attached, and a live object, by the contract of the caller.
        let held = unsafe { self.hold(container) };
        let is_same = |outer: &Bound<'_, PyAny>| outer.as_ptr() == container;
        if self.path.iter().any(is_same) {
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

    /// Writes a list.
    ///
    /// # Safety
    /// Attached, and a `list` on the path; a `tuple` or a `dict` for the next two functions.
    unsafe fn list(&mut self, list: *mut ffi::PyObject) -> Written {
        // SAFETY: a list on the path, whose size is read before each item.
        unsafe {
            self.writer.begin_list(list_size(list).cast_unsigned())?;
            let mut index = 0;
            while index < list_size(list) {
                let at = |stop: Stop| stop.within(|| Step::Number(index as i64));
                self.put(list_item(list, index)).map_err(at)?;
                index += 1;
            }
            self.writer.end_list(index.cast_unsigned())
        }
    }

    unsafe fn tuple(&mut self, tuple: *mut ffi::PyObject) -> Written {
        // SAFETY: a tuple, which is immutable.
        let size = unsafe { ffi::PyTuple_Size(tuple) };
        let arity = size.cast_unsigned();
        if arity > MAX_ARITY {
            return unconvertible(Why::TooLarge, "tuple");
        }
        self.writer.begin_tuple(arity)?;
        for index in 0..size {
            // SAFETY: the index is in the tuple, which holds the item.
            let put = unsafe { self.put(tuple_item(tuple, index)) };
            put.map_err(|stop| stop.within(|| Step::Number(index as i64)))?;
        }
        self.writer.end_tuple(arity)
    }
}
