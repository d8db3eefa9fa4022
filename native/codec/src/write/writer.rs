//! The trait of a destination of terms. The walk calls it on the thread that converts, attached; no
//! implementation may block.

use pyo3::prelude::*;

use crate::error::Stop;
use crate::opaque::Term;
use crate::rules::NoneAtom;

pub type Written = Result<(), Stop>;

/// Receives the parts of an object, in order. Each call adds one term, or begins or ends a container,
/// whose elements are added in between; keys and values of a map alternate. No method may run Python
/// code, since the walk has only borrowed the current object.
pub trait Writer {
    fn none(&mut self, atom: NoneAtom) -> Written;
    fn boolean(&mut self, value: bool) -> Written;
    /// Adds an atom of a fixed set, such as a key of an exception. The walk of an object adds none.
    fn atom(&mut self, name: &'static str) -> Written;
    fn integer(&mut self, value: i64) -> Written;
    /// Adds an integer that is no `i64`. The magnitude is little-endian, with no zero at the end.
    fn big_integer(&mut self, is_negative: bool, magnitude: &[u8]) -> Written;
    fn float(&mut self, value: f64) -> Written;
    /// Adds a binary. The bytes live and stay unchanged as long as `owner`, if there is one.
    fn binary(&mut self, bytes: &[u8], owner: Option<&Bound<'_, PyAny>>) -> Written;
    fn opaque(&mut self, term: &Term) -> Written;
    /// Adds an object that has no form in Erlang, as a handle.
    fn object(&mut self, object: &Bound<'_, PyAny>) -> Written;
    /// Begins a list of about `length` items: a finalizer may change it before the end.
    fn begin_list(&mut self, length: usize) -> Written;
    fn end_list(&mut self, length: usize) -> Written;
    fn begin_tuple(&mut self, arity: usize) -> Written;
    fn end_tuple(&mut self, arity: usize) -> Written;
    fn begin_map(&mut self, size: usize) -> Written;
    /// Ends a map. Fails with `KeyCollision` if two keys are the same term.
    fn end_map(&mut self, size: usize, keys: Keys) -> Written;
}

/// Whether two keys of a dict may become the same term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// All keys become different terms.
    Distinct,
    /// Two keys may become the same term: `'a'` and `b'a'` do.
    Unknown,
}
