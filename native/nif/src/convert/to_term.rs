//! Python objects to terms. Runs on workers, attached; builds in the reply's environment.
//!
//! Conversion reads containers through the C level and runs no code of the user's, but a
//! garbage collection in between may: every read is checked anew.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMemoryView, PySet,
    PyString, PyTuple,
};
use rustler::sys;
use rustler::{Encoder, Env, NewBinary, Term};
use std::borrow::Cow;

use super::raw::{float_value, items, list_item};
use super::terms::{float, make_list, make_map};
use super::{Answer, CHECK_INTERVAL, check_wanted};
use super::{LIST_CELL, MAX_BYTES, MAX_DEPTH, MAX_MAP_FROM_ARRAYS, MAX_TERMS, MIN_SHARED};
use super::{external, integer};
use crate::atoms;
use crate::error::{Error, Why};
use crate::object::{ErlangTerm, Object, SharedBytes};
use py_engine::host::Host;
use py_engine::python::fields;

/// The Erlang form of an object, for the job of `host`.
pub(crate) fn to_term<'a>(
    env: Env<'a>,
    object: &Bound<'_, PyAny>,
    host: &dyn Host,
) -> Result<Answer<'a>, Error> {
    if let Some(bytes) = external::encode(object, host)? {
        let mut binary = NewBinary::new(env, bytes.len());
        binary.as_mut_slice().copy_from_slice(&bytes);
        let is_external = true;
        return Ok(Answer {
            is_external,
            ..Answer::compact(binary.into())
        });
    }
    to_message(env, object, host)
}

/// As `to_term`, for a receiver that decodes nothing.
pub(crate) fn to_message<'a>(
    env: Env<'a>,
    object: &Bound<'_, PyAny>,
    host: &dyn Host,
) -> Result<Answer<'a>, Error> {
    let mut encoder = Encoding {
        env,
        host,
        path: Vec::new(),
        terms: 0,
        bytes: 0,
        scattered: false,
    };
    let term = encoder.convert(object)?;
    let scattered = encoder.scattered;
    Ok(Answer {
        scattered,
        ..Answer::compact(term)
    })
}

struct Encoding<'a, 't> {
    env: Env<'a>,
    host: &'t dyn Host,
    /// The containers around the object at hand, outermost first.
    path: Vec<*mut ffi::PyObject>,
    terms: usize,
    /// Of the binaries so far.
    bytes: usize,
    /// A big map has left old versions of itself behind.
    scattered: bool,
}

impl<'a> Encoding<'a, '_> {
    fn convert(&mut self, object: &Bound<'_, PyAny>) -> Result<Term<'a>, Error> {
        self.count_term(object)?;
        let env = self.env;
        // By frequency; `bool` before `int`, whose subclass it is.
        if let Ok(number) = object.cast_exact::<PyInt>() {
            self.integer(number)
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            Ok(float(env, number.value()))
        } else if let Ok(text) = object.cast::<PyString>() {
            self.string(text)
        } else if let Ok(flag) = object.cast::<PyBool>() {
            Ok(flag.is_true().encode(env))
        } else if let Ok(number) = object.cast::<PyInt>() {
            self.integer(number)
        } else if let Ok(number) = object.cast::<PyFloat>() {
            Ok(float(env, number.value()))
        } else if object.is_none() {
            Ok(atoms::none().encode(env))
        } else if let Ok(list) = object.cast::<PyList>() {
            self.within(object, |this| this.list(list))
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            self.within(object, |this| this.tuple(tuple))
        } else if let Ok(dict) = object.cast::<PyDict>() {
            self.within(object, |this| this.dict(dict))
        } else if let Ok(bytes) = object.cast::<PyBytes>() {
            self.binary_of(object, bytes.as_bytes())
        } else {
            self.rare(object)
        }
    }

    fn count_term(&mut self, object: &Bound<'_, PyAny>) -> Result<(), Error> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(Error::unconvertible(
                Why::TooLarge,
                fields::type_name(object),
            ));
        }
        if self.terms.is_multiple_of(CHECK_INTERVAL) {
            check_wanted(self.host)?;
        }
        Ok(())
    }

    fn rare(&mut self, object: &Bound<'_, PyAny>) -> Result<Term<'a>, Error> {
        let env = self.env;
        if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
            self.within(object, |this| this.set(object))
        } else if let Ok(array) = object.cast::<PyByteArray>() {
            self.binary(&array.to_vec())
        } else if object.is_instance_of::<PyMemoryView>() {
            let bytes = object.call_method0(intern!(object.py(), "tobytes"))?;
            let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
            self.binary(bytes.as_bytes())
        } else if let Ok(term) = object.cast::<ErlangTerm>() {
            Ok(term.get().to_term(env))
        } else {
            Ok(Object::hold(object).encode(env))
        }
    }

    /// Converts the inside of a container: at most `MAX_DEPTH` of them around one object.
    fn within(
        &mut self,
        container: &Bound<'_, PyAny>,
        inside: impl FnOnce(&mut Self) -> Result<Term<'a>, Error>,
    ) -> Result<Term<'a>, Error> {
        let why = if self.path.contains(&container.as_ptr()) {
            Why::Cycle
        } else if self.path.len() >= MAX_DEPTH {
            Why::TooDeep
        } else {
            self.path.push(container.as_ptr());
            let term = inside(self);
            self.path.pop();
            return term;
        };
        Err(Error::unconvertible(why, fields::type_name(container)))
    }

    fn list(&mut self, list: &Bound<'_, PyList>) -> Result<Term<'a>, Error> {
        let mut items = Vec::with_capacity(list.len());
        let mut index = 0;
        // Its length may change in between.
        while index < list.len() {
            // SAFETY: attached, a list, and an index in it.
            let item = unsafe { list_item(list.as_ptr(), index.cast_signed()) };
            let term = if let Some(number) = self.number(list, item)? {
                number
            } else {
                // SAFETY: attached, and a live object: nothing has run since it was in the list.
                let item = unsafe { Bound::from_borrowed_ptr(list.py(), item) };
                self.convert(&item)?
            };
            items.push(term.as_c_arg());
            index += 1;
        }
        make_list(self.env, &items)
    }

    /// What most big lists are full of, without a reference of its own to each item.
    fn number(
        &mut self,
        list: &Bound<'_, PyList>,
        item: *mut ffi::PyObject,
    ) -> Result<Option<Term<'a>>, Error> {
        // SAFETY: attached, a live object, and its type is known before it is read.
        let number = unsafe {
            if ffi::PyLong_CheckExact(item) != 0 {
                let mut overflow = 0;
                let small = ffi::PyLong_AsLongLongAndOverflow(item, &mut overflow);
                (overflow == 0).then(|| small.encode(self.env))
            } else if ffi::PyFloat_CheckExact(item) != 0 {
                Some(float(self.env, float_value(item)))
            } else {
                None
            }
        };
        if number.is_some() {
            self.count_term(list)?;
        }
        Ok(number)
    }

    fn set(&mut self, set: &Bound<'_, PyAny>) -> Result<Term<'a>, Error> {
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
        self.list(&items)
    }

    fn tuple(&mut self, tuple: &Bound<'_, PyTuple>) -> Result<Term<'a>, Error> {
        let mut items = Vec::with_capacity(tuple.len());
        for item in tuple.iter_borrowed() {
            items.push(self.convert(&item)?.as_c_arg());
        }
        let Ok(arity) = u32::try_from(items.len()) else {
            return Err(Error::unconvertible(Why::TooLarge, "tuple"));
        };
        // A tuple of the BEAM has at most 2^24 - 1 elements, and making a larger one is fatal.
        if arity > 0x00ff_ffff {
            return Err(Error::unconvertible(Why::TooLarge, "tuple"));
        }
        let env = self.env.as_c_arg();
        // SAFETY: `items` holds `arity` terms of `env`.
        let term = unsafe { sys::enif_make_tuple_from_array(env, items.as_ptr(), arity) };
        // SAFETY: `term` was just made in `env`.
        Ok(unsafe { Term::new(self.env, term) })
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> Result<Term<'a>, Error> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        // Not `dict.iter()`: that one panics on a dict that changes under it.
        for (key, value) in items(dict) {
            keys.push(self.convert(&key)?.as_c_arg());
            values.push(self.convert(&value)?.as_c_arg());
        }
        self.scattered |= keys.len() > MAX_MAP_FROM_ARRAYS;
        make_map(self.env, &keys, &values)
            .ok_or_else(|| Error::unconvertible(Why::KeyCollision, "dict"))
    }

    fn string(&mut self, text: &Bound<'_, PyString>) -> Result<Term<'a>, Error> {
        let surrogates = |_| Error::unconvertible(Why::NotUnicode, text.to_string_lossy());
        match text.to_cow().map_err(surrogates)? {
            Cow::Borrowed(utf8) => self.binary_of(text, utf8.as_bytes()),
            Cow::Owned(utf8) => self.binary(utf8.as_bytes()),
        }
    }

    /// The bytes live as long as the immutable object that they are in.
    fn binary_of(&mut self, owner: &Bound<'_, PyAny>, bytes: &[u8]) -> Result<Term<'a>, Error> {
        if bytes.len() < MIN_SHARED {
            return self.binary(bytes);
        }
        self.count_bytes(bytes.len())?;
        Ok(SharedBytes::share(self.env, owner, bytes))
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<Term<'a>, Error> {
        self.count_bytes(bytes.len())?;
        let mut binary = NewBinary::new(self.env, bytes.len());
        binary.as_mut_slice().copy_from_slice(bytes);
        Ok(binary.into())
    }

    /// One big object, found a million times in a list, is a million binaries in the reply.
    fn count_bytes(&mut self, count: usize) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes > MAX_BYTES {
            return Err(Error::unconvertible(Why::TooLarge, "bytes"));
        }
        Ok(())
    }

    fn integer(&mut self, number: &Bound<'_, PyInt>) -> Result<Term<'a>, Error> {
        let mut overflow = 0;
        // SAFETY: attached, and `number` is an int: no conversion is called.
        let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
        if overflow == 0 {
            return Ok(small.encode(self.env));
        }
        let external = integer::format(number, overflow < 0)?;
        // It stands on the heap, among the other terms.
        self.terms += external.len() / LIST_CELL;
        let term = self.env.binary_to_term(&external).map(|(term, _)| term);
        term.ok_or_else(|| Error::unconvertible(Why::TooLarge, "int"))
    }
}
