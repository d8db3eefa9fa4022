//! What one side holds of the other: Python objects in Erlang, Erlang terms in Python.
//!
//! Objects are made on workers, attached, and dropped anywhere: a drop leaves the reference to
//! [`py_engine::released`], whose thread alone runs what finalizers there are.

use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use rustler::env::SavedTerm;
use rustler::sys::{enif_compare, enif_is_identical};
use rustler::{Env, LocalPid, OwnedEnv, Resource, ResourceArc, Term};

use crate::error::Error;
use crate::live_counts::{COUNTS, CountGuard};
use py_engine::released::release;

/// An object with no Erlang form. As an argument it is that object again.
pub(crate) struct Object {
    /// Always `Some` until the drop.
    object: Option<Py<PyAny>>,
    _counted: CountGuard,
}

#[rustler::resource_impl]
impl Resource for Object {}

impl Object {
    pub(crate) fn hold(object: &Bound<'_, PyAny>) -> ResourceArc<Self> {
        let object = Some(object.clone().unbind());
        ResourceArc::new(Self {
            object,
            _counted: COUNTS.objects.enter(),
        })
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match &self.object {
            Some(object) => object.bind(py).clone(),
            None => py.None().into_bound(py),
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            release(object);
        }
    }
}

/// An immutable object whose bytes are those of a binary of the BEAM.
pub(crate) struct SharedBytes {
    /// Always `Some` until the drop.
    owner: Option<Py<PyAny>>,
    data: *const u8,
    size: usize,
    _counted: CountGuard,
}

// SAFETY: the bytes do not change, and the owner is not touched before the drop, which leaves it
// to the releaser.
unsafe impl Send for SharedBytes {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes {}

#[rustler::resource_impl]
impl Resource for SharedBytes {}

impl SharedBytes {
    /// A binary over `bytes`, which are inside of `owner`, for as long as that lives.
    pub(crate) fn share<'a>(env: Env<'a>, owner: &Bound<'_, PyAny>, bytes: &[u8]) -> Term<'a> {
        let shared = ResourceArc::new(Self {
            owner: Some(owner.clone().unbind()),
            data: bytes.as_ptr(),
            size: bytes.len(),
            _counted: COUNTS.objects.enter(),
        });
        // SAFETY: the owner keeps the bytes alive.
        let slice = |shared: &Self| unsafe { std::slice::from_raw_parts(shared.data, shared.size) };
        // SAFETY: the slice lives as long as the resource, which the binary keeps alive.
        let binary = unsafe { shared.make_binary_unsafe(env, slice) };
        binary.to_term(env)
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            release(owner);
        }
    }
}

/// A term with no Python form: a pid, a reference, a port, a fun, a bitstring. Back in Erlang it
/// is the very same term.
#[pyclass(frozen, name = "Term", module = "erlang")]
pub(crate) struct ErlangTerm {
    term: SavedTerm,
    env: OwnedEnv,
}

// SAFETY: the environment is only read after `wrap`: terms in it are copied out or compared.
unsafe impl Sync for ErlangTerm {}

impl ErlangTerm {
    pub(crate) fn wrap<'py>(py: Python<'py>, term: Term<'_>) -> Result<Bound<'py, PyAny>, Error> {
        let env = OwnedEnv::new();
        let term = env.save(term);
        Ok(Bound::new(py, Self { term, env })?.into_any())
    }

    /// Of what `make` makes in an environment of its own.
    pub(crate) fn make(make: impl for<'a> FnOnce(Env<'a>) -> Option<Term<'a>>) -> Option<Self> {
        let env = OwnedEnv::new();
        let term = env.run(|own| make(own).map(|term| env.save(term)))?;
        Some(Self { term, env })
    }

    pub(crate) fn copy(&self) -> Self {
        let env = OwnedEnv::new();
        let term = self.with(|term| env.save(term));
        Self { term, env }
    }

    pub(crate) fn is_atom(&self) -> bool {
        self.with(|term| term.is_atom())
    }

    pub(crate) fn local_pid(&self) -> Option<LocalPid> {
        self.with(|term| term.decode().ok())
    }

    pub(crate) fn to_term<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.with(|term| term.in_env(env))
    }

    fn is_identical(&self, other: &Self) -> bool {
        // SAFETY: both terms live in environments that outlive this call.
        let identical = |a: Term<'_>, b: Term<'_>| unsafe {
            enif_is_identical(a.as_c_arg(), b.as_c_arg()) != 0
        };
        self.with(|a| other.with(|b| identical(a, b)))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(Term<'_>) -> R) -> R {
        self.env.run(|env| f(self.term.load(env)))
    }
}

#[pymethods]
impl ErlangTerm {
    fn __repr__(&self) -> String {
        self.with(|term| format!("<erlang.Term {term:?}>"))
    }

    fn __hash__(&self) -> u64 {
        self.with(|term| u64::from(term.hash_phash2()))
    }

    fn __richcmp__(&self, other: &Self, op: CompareOp) -> bool {
        let order = self.with(|a| {
            let a = a.as_c_arg();
            // SAFETY: both terms live in environments that outlive this call.
            other.with(|b| unsafe { enif_compare(a, b.as_c_arg()) })
        });
        // As `=:=` and hashes do, Python must tell `1` from `1.0` in it: it calls equal what has
        // one hash. `<` and `>` are Erlang's order.
        let order = order.cmp(&0);
        match op {
            CompareOp::Eq => self.is_identical(other),
            CompareOp::Ne => !self.is_identical(other),
            _ => op.matches(order),
        }
    }
}
