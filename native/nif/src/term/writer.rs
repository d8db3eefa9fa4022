//! The codec's writer of terms, in the environment of a reply. Called by the walk of the codec on
//! workers and guests, attached; runs no Python code and blocks on nothing.

use py_codec::{Error, Keys, NoneAtom, Stop, Term as ErlangTerm, Why, Writer, Written};
use pyo3::prelude::*;
use rustler::sys::{self, ErlNifTerm};
use rustler::{Atom, Encoder, Env, NewBinary, Term};

use super::handles::{Object, SharedBytes};
use super::make::{MAX_MAP_FROM_ARRAYS, make_list, make_map, make_tuple};
use super::opaque::OfBeam;
use crate::atoms;

/// The size from which a binary shares the bytes of its Python object; smaller ones are copied.
pub(crate) const MIN_SHARED: usize = 1 << 16;

pub(crate) struct TermWriter<'a> {
    env: Env<'a>,
    /// The elements of the containers that have not ended; at the end the whole term.
    terms: Vec<ErlNifTerm>,
    /// The environment holds old versions of a big map, which was grown key by key.
    has_garbage: bool,
}

impl<'a> TermWriter<'a> {
    pub(crate) fn new(env: Env<'a>) -> Self {
        Self {
            env,
            terms: Vec::new(),
            has_garbage: false,
        }
    }

    pub(crate) fn has_garbage(&self) -> bool {
        self.has_garbage
    }

    /// Returns the term. Called when all of it has been written.
    pub(crate) fn into_term(self) -> Term<'a> {
        match self.terms.last() {
            // SAFETY: every term in `terms` was made in `env`.
            Some(term) => unsafe { Term::new(self.env, *term) },
            None => atoms::none().encode(self.env),
        }
    }

    /// Adds a term of the environment.
    pub(crate) fn term(&mut self, term: Term<'a>) -> Written {
        self.add(term.as_c_arg())
    }

    #[inline]
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the methods of the trait end with it"
    )]
    fn add(&mut self, term: ErlNifTerm) -> Written {
        self.terms.push(term);
        Ok(())
    }

    /// Replaces the last `count` terms by the one that `make` makes of them; fails with `failure`
    /// if it makes none.
    fn end(
        &mut self,
        count: usize,
        make: impl FnOnce(Env<'a>, &[ErlNifTerm]) -> Option<ErlNifTerm>,
        failure: (Why, &str),
    ) -> Written {
        let first = self.terms.len().saturating_sub(count);
        let made = make(self.env, self.terms.get(first..).unwrap_or_default());
        let failed = || Stop::from(Error::unconvertible(failure.0, failure.1));
        let term = made.ok_or_else(failed)?;
        self.terms.truncate(first);
        self.add(term)
    }
}

impl Writer for TermWriter<'_> {
    fn none(&mut self, atom: NoneAtom) -> Written {
        let atom = match atom {
            NoneAtom::None => atoms::none(),
            NoneAtom::Nil => atoms::nil(),
            NoneAtom::Undefined => atoms::undefined(),
        };
        self.add(atom.encode(self.env).as_c_arg())
    }

    fn boolean(&mut self, value: bool) -> Written {
        self.add(value.encode(self.env).as_c_arg())
    }

    fn atom(&mut self, name: &'static str) -> Written {
        let too_large = |_| Stop::from(Error::unconvertible(Why::TooLarge, "atom"));
        let atom = Atom::from_str(self.env, name).map_err(too_large)?;
        self.add(atom.encode(self.env).as_c_arg())
    }

    #[inline]
    fn integer(&mut self, value: i64) -> Written {
        self.add(value.encode(self.env).as_c_arg())
    }

    /// Writes an integer beyond 64 bits. `erl_nif` makes one only from the external term format:
    /// `131, 111, N:32, Sign:8, Magnitude`.
    fn big_integer(&mut self, is_negative: bool, magnitude: &[u8]) -> Written {
        let too_large = || Stop::from(Error::unconvertible(Why::TooLarge, "int"));
        let length = u32::try_from(magnitude.len()).map_err(|_| too_large())?;
        let mut external = Vec::with_capacity(magnitude.len() + 7);
        external.extend([131, 111]);
        external.extend(length.to_be_bytes());
        external.push(u8::from(is_negative));
        external.extend(magnitude);
        let (term, _) = self.env.binary_to_term(&external).ok_or_else(too_large)?;
        self.add(term.as_c_arg())
    }

    #[inline]
    fn float(&mut self, value: f64) -> Written {
        let env = self.env;
        let term = if value.is_finite() {
            // SAFETY: `env` is alive, and the BEAM has a float for every finite number.
            return self.add(unsafe { sys::enif_make_double(env.as_c_arg(), value) });
        } else if value.is_nan() {
            atoms::nan()
        } else if value > 0.0 {
            atoms::infinity()
        } else {
            atoms::neg_infinity()
        };
        self.add(term.encode(env).as_c_arg())
    }

    fn binary(&mut self, bytes: &[u8], owner: Option<&Bound<'_, PyAny>>) -> Written {
        if let Some(owner) = owner
            && bytes.len() >= MIN_SHARED
        {
            return self.add(SharedBytes::share(self.env, owner, bytes).as_c_arg());
        }
        let mut binary = NewBinary::new(self.env, bytes.len());
        binary.as_mut_slice().copy_from_slice(bytes);
        self.add(Term::from(binary).as_c_arg())
    }

    fn opaque(&mut self, term: &ErlangTerm) -> Written {
        self.add(term.to_term(self.env).as_c_arg())
    }

    fn object(&mut self, object: &Bound<'_, PyAny>) -> Written {
        self.add(Object::hold(object).encode(self.env).as_c_arg())
    }

    fn begin_list(&mut self, length: usize) -> Written {
        self.terms.reserve(length);
        Ok(())
    }

    fn end_list(&mut self, length: usize) -> Written {
        self.end(length, make_list, (Why::TooLarge, "list"))
    }

    fn begin_tuple(&mut self, _arity: usize) -> Written {
        Ok(())
    }

    fn end_tuple(&mut self, arity: usize) -> Written {
        self.end(arity, make_tuple, (Why::TooLarge, "tuple"))
    }

    fn begin_map(&mut self, size: usize) -> Written {
        self.terms.reserve(2 * size);
        Ok(())
    }

    /// Ends a map. `make_map` finds keys that are the same term, so `_keys` says nothing new.
    fn end_map(&mut self, size: usize, _keys: Keys) -> Written {
        self.has_garbage |= size > MAX_MAP_FROM_ARRAYS;
        self.end(2 * size, make_map, (Why::KeyCollision, "dict"))
    }
}
