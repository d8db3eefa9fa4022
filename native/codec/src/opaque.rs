//! `erlang.Term`: the Python object for a term with no Python form: a pid, a reference, a port, a
//! fun, a bit string. Back in Erlang it is the very same term.
//!
//! Made and used attached; dropped by whichever thread drops the last reference to it.

use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use std::any::Any;
use std::cmp::Ordering;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The term behind a [`Term`]. No method runs Python code.
pub trait Opaque: Send + Sync + UnwindSafe + RefUnwindSafe + 'static {
    /// The term for a person to read.
    fn text(&self) -> String;

    /// Equal for two terms that are identical.
    fn hash(&self) -> u64;

    /// Whether both are the very same term, as `=:=` says.
    fn is_identical(&self, other: &dyn Opaque) -> bool;

    /// A total order of the terms of one implementation.
    fn compare(&self, other: &dyn Opaque) -> Ordering;

    /// The term in the external term format, without the version byte; `None` if only the
    /// implementation itself can give it back.
    fn external(&self) -> Option<&[u8]>;

    /// For the implementation to find its own.
    fn as_any(&self) -> &dyn Any;
}

#[pyclass(frozen, name = "Term", module = "erlang")]
pub struct Term(Box<dyn Opaque>);

impl Term {
    pub fn new(opaque: impl Opaque) -> Self {
        Self(Box::new(opaque))
    }

    pub fn opaque(&self) -> &dyn Opaque {
        &*self.0
    }
}

#[pymethods]
impl Term {
    fn __repr__(&self) -> String {
        format!("<erlang.Term {}>", self.0.text())
    }

    fn __hash__(&self) -> u64 {
        self.0.hash()
    }

    /// `==` is `=:=`: Python must tell `1` from `1.0` in a term, as hashes do, since equal objects
    /// have one hash. `<` and `>` are the order of terms.
    fn __richcmp__(&self, other: &Self, op: CompareOp) -> bool {
        match op {
            CompareOp::Eq => self.0.is_identical(other.opaque()),
            CompareOp::Ne => !self.0.is_identical(other.opaque()),
            _ => op.matches(self.0.compare(other.opaque())),
        }
    }
}
