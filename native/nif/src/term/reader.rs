//! The codec's reader of terms. Called by the walk of the codec on workers and guests, attached;
//! blocks on nothing.

use py_codec::{ByteOwner, Constant, Error, Fallible, Kind, Reader, Tag, Why, integer};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};
use rustler::sys::{self, ErlNifTerm, ErlNifTermType as Type};
use rustler::{Atom, Binary, Env, MapIterator, ResourceArc, Term};
use std::{ptr, slice};

use super::atom_cache;
use super::handles::{Object, ProcessObject};
use super::held_binary::HeldBinary;
use super::opaque::{ErlangTerm, OfBeam};
use crate::atoms;

/// A reader that stands at one term of an environment.
pub(crate) struct TermReader<'a> {
    env: Env<'a>,
    /// The current term, which is one of `env`.
    term: ErlNifTerm,
}

impl<'a> TermReader<'a> {
    pub(crate) fn new(term: Term<'a>) -> Self {
        Self {
            env: term.get_env(),
            term: term.as_c_arg(),
        }
    }

    fn term(&self) -> Term<'a> {
        // SAFETY: `self.term` is a term of `self.env`.
        unsafe { Term::new(self.env, self.term) }
    }

    fn is(&self, atom: Atom) -> bool {
        atom == self.term()
    }
}

/// The entries of a map that were not read yet.
pub(crate) struct Entries<'a> {
    entries: Option<MapIterator<'a>>,
    /// The value of the key that was read last.
    value: ErlNifTerm,
    size: usize,
}

impl<'a> Reader for TermReader<'a> {
    /// The rest of the list, which was not read yet.
    type List = ErlNifTerm;
    type Tuple = slice::Iter<'a, ErlNifTerm>;
    type Map = Entries<'a>;
    type Mark = ErlNifTerm;

    fn kind(&mut self) -> Fallible<Kind> {
        Ok(match self.term().get_erl_type() {
            Type::ERL_NIF_TERM_TYPE_INTEGER => Kind::Integer,
            Type::ERL_NIF_TERM_TYPE_ATOM => Kind::Atom,
            Type::ERL_NIF_TERM_TYPE_FLOAT => Kind::Float,
            Type::ERL_NIF_TERM_TYPE_BITSTRING => Kind::Bits,
            Type::ERL_NIF_TERM_TYPE_LIST => Kind::List,
            Type::ERL_NIF_TERM_TYPE_TUPLE => Kind::Tuple,
            Type::ERL_NIF_TERM_TYPE_MAP => Kind::Map,
            _ => Kind::Other,
        })
    }

    #[inline]
    fn small_integer(&mut self) -> Option<i64> {
        let mut value = 0;
        // SAFETY: `term` is a term of `env`, and `value` can be written.
        let found = unsafe { sys::enif_get_int64(self.env.as_c_arg(), self.term, &mut value) };
        (found == 1).then_some(value)
    }

    fn big_integer<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>> {
        if let Ok(word) = self.term().decode::<u64>() {
            return Ok(PyInt::new(py, word).into_any());
        }
        let external = self.term().to_binary();
        // SMALL_BIG_EXT and LARGE_BIG_EXT: <https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>
        match &*external {
            [131, 110, _, sign, magnitude @ ..] | [131, 111, _, _, _, _, sign, magnitude @ ..] => {
                integer(py, *sign != 0, magnitude)
            }
            _ => Err(Error::unconvertible(Why::TooLarge, "integer").into()),
        }
    }

    /// Returns a float; `None` for an integer, which rustler's `decode` would convert.
    #[inline]
    fn float(&mut self) -> Option<f64> {
        let mut value = 0.0;
        // SAFETY: `term` is a term of `env`, and `value` can be written.
        let found = unsafe { sys::enif_get_double(self.env.as_c_arg(), self.term, &mut value) };
        (found == 1).then_some(value)
    }

    fn constant(&mut self) -> Option<Constant> {
        if self.is(atoms::true_()) {
            Some(Constant::True)
        } else if self.is(atoms::false_()) {
            Some(Constant::False)
        } else if self.is(atoms::none()) || self.is(atoms::nil()) || self.is(atoms::undefined()) {
            Some(Constant::None)
        } else {
            None
        }
    }

    fn atom<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyString>> {
        Ok(atom_cache::find(py, self.term()))
    }

    fn binary(&mut self) -> Fallible<Option<&[u8]>> {
        let binary = Binary::from_term(self.term()).ok();
        Ok(binary.map(|binary| binary.as_slice()))
    }

    fn held_binary(&mut self) -> Fallible<Box<dyn ByteOwner>> {
        match HeldBinary::hold(self.term()) {
            Some(held) => Ok(Box::new(held)),
            None => Err(Error::unconvertible(Why::TooLarge, "view").into()),
        }
    }

    fn other<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>> {
        match self.term().decode::<ResourceArc<Object>>() {
            Ok(object) => Ok(object.bind(py)),
            Err(_) if self.term().decode::<ResourceArc<ProcessObject>>().is_ok() => {
                let value = "an object of a child process";
                Err(Error::unconvertible(Why::ForeignObject, value).into())
            }
            Err(_) => Ok(ErlangTerm::wrap(py, self.term())?),
        }
    }

    fn short_text(&mut self) -> Fallible<String> {
        Ok(match self.kind()? {
            Kind::Integer => "<big integer>".to_owned(),
            Kind::Bits => "<bitstring>".to_owned(),
            _ => format!("{:?}", self.term()),
        })
    }

    fn open_list(&mut self) -> Fallible<ErlNifTerm> {
        Ok(self.term)
    }

    fn length(&self, list: &ErlNifTerm) -> Option<usize> {
        let mut length = 0;
        // SAFETY: `list` is a term of `env`, and `length` can be written.
        let found = unsafe { sys::enif_get_list_length(self.env.as_c_arg(), *list, &mut length) };
        (found == 1).then_some(length as usize)
    }

    #[inline]
    fn next_item(&mut self, list: &mut ErlNifTerm) -> bool {
        // SAFETY: `list` is a term of `env`; head and tail, which are written if 1 is returned, are
        // terms of `env` too.
        unsafe { sys::enif_get_list_cell(self.env.as_c_arg(), *list, &mut self.term, list) == 1 }
    }

    fn close_list(&mut self, list: ErlNifTerm) -> Fallible<bool> {
        self.term = list;
        Ok(self.term().is_empty_list())
    }

    fn open_tuple(&mut self) -> Fallible<slice::Iter<'a, ErlNifTerm>> {
        let (mut arity, mut elements) = (0, ptr::null());
        let env = self.env.as_c_arg();
        // SAFETY: `term` is a term of `env`; `arity` and `elements` can be written.
        let found = unsafe { sys::enif_get_tuple(env, self.term, &mut arity, &mut elements) };
        let arity = usize::try_from(arity).unwrap_or(0);
        if found != 1 || arity == 0 {
            return Ok([].iter());
        }
        // SAFETY: `elements` points to `arity` terms, which live as long as the environment; it is
        // neither cleared nor garbage collected within `'a`.
        Ok(unsafe { slice::from_raw_parts(elements, arity).iter() })
    }

    fn arity(&self, tuple: &slice::Iter<'a, ErlNifTerm>) -> usize {
        tuple.len()
    }

    fn tag(&mut self, tuple: &mut slice::Iter<'a, ErlNifTerm>) -> Option<Tag> {
        let [tag, value] = *tuple.as_slice() else {
            return None;
        };
        self.term = tag;
        let tag = if self.is(atoms::bytes()) {
            Tag::Bytes
        } else if self.is(atoms::view()) {
            Tag::View
        } else if self.is(atoms::ndarray()) {
            Tag::Array
        } else {
            return None;
        };
        self.term = value;
        let fits = match tag {
            Tag::Bytes | Tag::View => self.term().is_binary(),
            Tag::Array => self.term().map_size().is_ok_and(|size| size == 3),
        };
        fits.then_some(tag)
    }

    fn next_element(&mut self, tuple: &mut slice::Iter<'a, ErlNifTerm>) {
        if let Some(element) = tuple.next() {
            self.term = *element;
        }
    }

    fn open_map(&mut self) -> Fallible<Entries<'a>> {
        let map = self.term();
        Ok(Entries {
            entries: MapIterator::new(map),
            value: self.term,
            size: map.map_size().unwrap_or(0),
        })
    }

    fn size(&self, map: &Entries<'a>) -> usize {
        map.size
    }

    fn next_key(&mut self, map: &mut Entries<'a>) -> bool {
        let entry = map.entries.as_mut().and_then(MapIterator::next);
        let Some((key, value)) = entry else {
            return false;
        };
        self.term = key.as_c_arg();
        map.value = value.as_c_arg();
        true
    }

    fn next_entry_value(&mut self, map: &mut Entries<'a>) {
        self.term = map.value;
    }

    fn mark(&self) -> ErlNifTerm {
        self.term
    }

    fn rewind(&mut self, mark: ErlNifTerm) {
        self.term = mark;
    }
}
