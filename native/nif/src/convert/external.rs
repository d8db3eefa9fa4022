//! Big containers in the external term format, for the caller to decode
//! (<https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>). Runs on workers, attached.
//!
//! The BEAM decodes into the heap of the caller at once, in pieces that do not hold up a scheduler,
//! and may build maps of any size there; and the GIL is held for the encoding only.
//!
//! Nothing here makes a Python object or runs Python code, so nothing changes on the way. What is
//! odd goes the other way, which knows what to make of it.

use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_char;
use std::slice;

use super::judge::is_worthwhile;
use super::raw::{float_value, list_item};
use super::{CHECK_INTERVAL, MAX_BYTES, MAX_DEPTH, MAX_TERMS, check_wanted};
use crate::error::{Error, Why};
use py_engine::host::Host;

/// Bigger binaries are copied once only, on the other way.
const MAX_INLINE: usize = 1 << 16;

/// Of an element, to begin with.
const TYPICAL_SIZE: usize = 10;

const VERSION: u8 = 131;
const NEW_FLOAT: u8 = 70;
const SMALL_INTEGER: u8 = 97;
const INTEGER: u8 = 98;
const SMALL_TUPLE: u8 = 104;
const LARGE_TUPLE: u8 = 105;
const NIL: u8 = 106;
const LIST: u8 = 108;
const BINARY: u8 = 109;
const SMALL_BIG: u8 = 110;
const MAP: u8 = 116;
const SMALL_ATOM_UTF8: u8 = 119;

/// The term that `object` becomes, encoded; `None` for what is small or odd.
pub(super) fn encode(object: &Bound<'_, PyAny>, host: &dyn Host) -> Result<Option<Vec<u8>>, Error> {
    let object = object.as_ptr();
    // SAFETY: attached, a live object.
    if unsafe { !is_worthwhile(object) } {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(1 << 10);
    bytes.push(VERSION);
    let mut encoder = Encoder {
        bytes,
        host,
        terms: 0,
    };
    // SAFETY: as above; nothing runs in between that could free it or what is in it.
    match unsafe { encoder.put(object, 0) } {
        Ok(()) => Ok(Some(encoder.bytes)),
        Err(Stop::Odd) => Ok(None),
        Err(Stop::Failed(error)) => Err(error),
    }
}

enum Stop {
    Odd,
    Failed(Error),
}

struct Encoder<'t> {
    bytes: Vec<u8>,
    host: &'t dyn Host,
    terms: usize,
}

impl Encoder<'_> {
    /// # Safety
    /// Attached, and a live object.
    unsafe fn put(&mut self, object: *mut ffi::PyObject, depth: usize) -> Result<(), Stop> {
        self.terms += 1;
        if self.terms.is_multiple_of(CHECK_INTERVAL) {
            check_wanted(self.host).map_err(Stop::Failed)?;
            if self.terms > MAX_TERMS || self.bytes.len() > MAX_BYTES {
                let error = Error::unconvertible(Why::TooLarge, "container");
                return Err(Stop::Failed(error));
            }
        }
        // SAFETY: the type is checked before each access.
        unsafe {
            if ffi::PyUnicode_Check(object) != 0 {
                self.put_text(object)
            } else if ffi::PyBool_Check(object) != 0 {
                if object == ffi::Py_True() {
                    self.put_atom(b"true")
                } else {
                    self.put_atom(b"false")
                }
            } else if ffi::PyLong_Check(object) != 0 {
                self.put_integer(object)
            } else if ffi::PyFloat_Check(object) != 0 {
                self.put_float(float_value(object))
            } else if object == ffi::Py_None() {
                self.put_atom(b"none")
            } else if depth == MAX_DEPTH {
                Err(Stop::Odd)
            } else if ffi::PyList_Check(object) != 0 {
                self.put_list(object, depth + 1)
            } else if ffi::PyTuple_Check(object) != 0 {
                self.put_tuple(object, depth + 1)
            } else if ffi::PyDict_Check(object) != 0 {
                self.put_dict(object, depth + 1)
            } else if ffi::PyBytes_Check(object) != 0 {
                let data = ffi::PyBytes_AsString(object);
                self.put_binary(data, ffi::PyBytes_Size(object))
            } else {
                Err(Stop::Odd)
            }
        }
    }

    /// # Safety
    /// Attached, and a `list`.
    unsafe fn put_list(&mut self, list: *mut ffi::PyObject, depth: usize) -> Result<(), Stop> {
        // SAFETY: a list, which nothing changes on the way.
        let length = unsafe { ffi::PyList_Size(list) };
        if length > 0 {
            self.put_head(LIST, length)?;
            for index in 0..length {
                // SAFETY: as above: the index is in the list.
                unsafe { self.put(list_item(list, index), depth)? };
            }
        }
        self.bytes.push(NIL);
        Ok(())
    }

    /// # Safety
    /// Attached, and a `tuple`.
    unsafe fn put_tuple(&mut self, tuple: *mut ffi::PyObject, depth: usize) -> Result<(), Stop> {
        // SAFETY: a tuple.
        let arity = unsafe { ffi::PyTuple_Size(tuple) };
        if let Ok(arity) = u8::try_from(arity) {
            self.bytes.extend([SMALL_TUPLE, arity]);
        } else if arity <= 0x00ff_ffff {
            self.put_head(LARGE_TUPLE, arity)?;
        } else {
            return Err(Stop::Odd);
        }
        for index in 0..arity {
            // SAFETY: the index is in the tuple.
            unsafe { self.put(ffi::PyTuple_GetItem(tuple, index), depth)? };
        }
        Ok(())
    }

    /// Keys of one type, so that two keys never become one term.
    ///
    /// # Safety
    /// Attached, and a `dict`.
    unsafe fn put_dict(&mut self, dict: *mut ffi::PyObject, depth: usize) -> Result<(), Stop> {
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a dict, which nothing changes on the way.
        unsafe {
            self.put_head(MAP, ffi::PyDict_Size(dict))?;
            while ffi::PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
                if ffi::PyUnicode_CheckExact(key) == 0 && ffi::PyLong_CheckExact(key) == 0 {
                    return Err(Stop::Odd);
                }
                self.put(key, depth)?;
                self.put(value, depth)?;
            }
        }
        Ok(())
    }

    fn put_head(&mut self, tag: u8, length: isize) -> Result<(), Stop> {
        let length = u32::try_from(length).map_err(|_| Stop::Odd)?;
        if tag != BINARY {
            self.bytes.reserve(length as usize * TYPICAL_SIZE);
        }
        self.bytes.push(tag);
        self.bytes.extend(length.to_be_bytes());
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the others")]
    fn put_atom<const N: usize>(&mut self, name: &[u8; N]) -> Result<(), Stop> {
        const { assert!(N < 256) };
        self.bytes.extend([SMALL_ATOM_UTF8, N as u8]);
        self.bytes.extend(name);
        Ok(())
    }

    /// # Safety
    /// Attached, and a `str`.
    unsafe fn put_text(&mut self, text: *mut ffi::PyObject) -> Result<(), Stop> {
        let mut size = 0;
        // SAFETY: a str; the data live as long as it does.
        unsafe {
            let data = ffi::PyUnicode_AsUTF8AndSize(text, &mut size);
            if data.is_null() {
                // Lone surrogates.
                ffi::PyErr_Clear();
                return Err(Stop::Odd);
            }
            self.put_binary(data, size)
        }
    }

    /// # Safety
    /// `size` bytes can be read at `data`.
    unsafe fn put_binary(&mut self, data: *const c_char, size: isize) -> Result<(), Stop> {
        if size.cast_unsigned() > MAX_INLINE {
            return Err(Stop::Odd);
        }
        self.put_head(BINARY, size)?;
        // SAFETY: the caller's.
        let bytes = unsafe { slice::from_raw_parts(data.cast::<u8>(), size.cast_unsigned()) };
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// # Safety
    /// Attached, and an `int`.
    unsafe fn put_integer(&mut self, number: *mut ffi::PyObject) -> Result<(), Stop> {
        let mut overflow = 0;
        // SAFETY: an int: no conversion is called.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number, &mut overflow) };
        if overflow != 0 {
            return Err(Stop::Odd);
        }
        if let Ok(small) = u8::try_from(value) {
            self.bytes.extend([SMALL_INTEGER, small]);
        } else if let Ok(word) = i32::try_from(value) {
            let [a, b, c, d] = word.to_be_bytes();
            self.bytes.extend([INTEGER, a, b, c, d]);
        } else {
            self.bytes.extend([SMALL_BIG, 8, u8::from(value < 0)]);
            self.bytes.extend(value.unsigned_abs().to_le_bytes());
        }
        Ok(())
    }

    fn put_float(&mut self, value: f64) -> Result<(), Stop> {
        if value.is_finite() {
            let mut bytes = [NEW_FLOAT; 9];
            bytes[1..].copy_from_slice(&value.to_be_bytes());
            self.bytes.extend(bytes);
            Ok(())
        } else if value.is_nan() {
            self.put_atom(b"nan")
        } else if value > 0.0 {
            self.put_atom(b"infinity")
        } else {
            self.put_atom(b"neg_infinity")
        }
    }
}
