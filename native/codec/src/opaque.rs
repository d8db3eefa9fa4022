//! `erlang.Term`: the Python object for a term without a Python form: a pid, a reference, a port, a
//! fun, a bit string. Written back to Erlang, the object becomes the very same term.
//!
//! Made and used attached, dropped on the thread that drops the last reference; blocks on nothing.

use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use std::any::Any;
use std::cmp::Ordering;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The term behind a [`Term`]. No method runs Python code.
pub trait Opaque: Send + Sync + UnwindSafe + RefUnwindSafe + 'static {
    /// Returns the text of the term, for `repr`.
    fn text(&self) -> String;

    /// Returns a hash, which is the same for two terms that are identical.
    fn hash(&self) -> u64;

    /// Whether both are the same term, in the sense of `=:=`.
    fn is_identical(&self, other: &dyn Opaque) -> bool;

    /// Compares two terms. A total order among the terms of one implementation.
    fn compare(&self, other: &dyn Opaque) -> Ordering;

    /// Returns the term in the external term format, without the version byte; `None` if only the
    /// implementation itself can write the term.
    fn external(&self) -> Option<&[u8]>;

    /// Returns `self`, for the implementation to find its own type.
    fn as_any(&self) -> &dyn Any;
}

/// The class `erlang.Term`.
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

    /// Compares two terms: `==` in Python is `=:=` in Erlang, so that equal objects have equal hashes;
    /// `<` and `>` follow the order of terms.
    fn __richcmp__(&self, other: &Self, op: CompareOp) -> bool {
        match op {
            CompareOp::Eq => self.0.is_identical(other.opaque()),
            CompareOp::Ne => !self.0.is_identical(other.opaque()),
            _ => op.matches(self.0.compare(other.opaque())),
        }
    }
}
