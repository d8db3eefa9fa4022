//! Terms of the BEAM that Python holds: the `Opaque` behind an `erlang.Term`. Made and used on
//! attached threads; dropped on the thread that drops the last reference. Nothing here blocks.

use py_codec::Opaque;
use pyo3::prelude::*;
use rustler::env::SavedTerm;
use rustler::sys::{enif_compare, enif_is_identical};
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};
use std::any::Any;
use std::cmp::Ordering;

use crate::atoms;

pub(crate) use py_codec::Term as ErlangTerm;

/// A copy of a term, in an environment of its own.
struct Held {
    term: SavedTerm,
    env: OwnedEnv,
}

// SAFETY: after `new` or `make` the environment is only read: its term is copied out or compared.
unsafe impl Sync for Held {}

impl Held {
    fn new(term: Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let term = env.save(term);
        Self { term, env }
    }

    fn with<R>(&self, f: impl FnOnce(Term<'_>) -> R) -> R {
        self.env.run(|env| f(self.term.load(env)))
    }
}

/// An `erlang.Term` over a term of the BEAM.
pub(crate) trait OfBeam: Sized {
    fn wrap<'py>(py: Python<'py>, term: Term<'_>) -> PyResult<Bound<'py, PyAny>>;

    /// Keeps the term that `make` returns, in an environment of its own; `None` if it returns none.
    fn make(make: impl for<'a> FnOnce(Env<'a>) -> Option<Term<'a>>) -> Option<Self>;

    fn copy(&self) -> Self;

    /// Calls `f` with the term.
    fn with<R>(&self, f: impl FnOnce(Term<'_>) -> R) -> R;

    fn is_atom(&self) -> bool {
        self.with(|term| term.is_atom())
    }

    fn local_pid(&self) -> Option<LocalPid> {
        self.with(|term| term.decode().ok())
    }

    fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.with(|term| term.in_env(env))
    }
}

impl OfBeam for ErlangTerm {
    fn wrap<'py>(py: Python<'py>, term: Term<'_>) -> PyResult<Bound<'py, PyAny>> {
        Ok(Bound::new(py, Self::new(Held::new(term)))?.into_any())
    }

    fn make(make: impl for<'a> FnOnce(Env<'a>) -> Option<Term<'a>>) -> Option<Self> {
        let env = OwnedEnv::new();
        let term = env.run(|term_env| make(term_env).map(|term| env.save(term)))?;
        Some(Self::new(Held { term, env }))
    }

    fn copy(&self) -> Self {
        self.with(|term| Self::new(Held::new(term)))
    }

    fn with<R>(&self, f: impl FnOnce(Term<'_>) -> R) -> R {
        match self.opaque().as_any().downcast_ref::<Held>() {
            Some(held) => held.with(f),
            // Unreachable: the VM has no other implementation of `Opaque`.
            None => OwnedEnv::new().run(|env| f(atoms::undefined().encode(env))),
        }
    }
}

impl Opaque for Held {
    fn text(&self) -> String {
        self.with(|term| format!("{term:?}"))
    }

    fn hash(&self) -> u64 {
        self.with(|term| u64::from(term.hash_phash2()))
    }

    fn is_identical(&self, other: &dyn Opaque) -> bool {
        let Some(other) = other.as_any().downcast_ref::<Self>() else {
            return false;
        };
        // SAFETY: both terms live in environments that `self` and `other` own.
        let identical = |a: Term<'_>, b: Term<'_>| unsafe {
            enif_is_identical(a.as_c_arg(), b.as_c_arg()) != 0
        };
        self.with(|a| other.with(|b| identical(a, b)))
    }

    /// Compares in the term order of Erlang.
    fn compare(&self, other: &dyn Opaque) -> Ordering {
        let Some(other) = other.as_any().downcast_ref::<Self>() else {
            return Ordering::Greater;
        };
        // SAFETY: both terms live in environments that `self` and `other` own.
        let compare =
            |a: Term<'_>, b: Term<'_>| unsafe { enif_compare(a.as_c_arg(), b.as_c_arg()) };
        self.with(|a| other.with(|b| compare(a, b))).cmp(&0)
    }

    fn external(&self) -> Option<&[u8]> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
