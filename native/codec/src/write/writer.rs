//! The side of a conversion that terms are written to. Called by the walk, attached.

use pyo3::prelude::*;

use crate::error::Stop;
use crate::opaque::Term;

pub type Written = Result<(), Stop>;

/// Receives the parts of an object, in order. Each call adds one term, or begins or ends a container,
/// whose elements come in between; keys and values of a map alternate. No method may run Python
/// code: the walk borrows what it is at.
pub trait Writer {
    fn none(&mut self) -> Written;
    fn boolean(&mut self, value: bool) -> Written;
    fn integer(&mut self, value: i64) -> Written;
    /// An integer that is no `i64`: its magnitude, little-endian, with no zero at the end.
    fn big_integer(&mut self, is_negative: bool, magnitude: &[u8]) -> Written;
    fn float(&mut self, value: f64) -> Written;
    /// Bytes that live and stay unchanged as long as `owner`, if there is one.
    fn binary(&mut self, bytes: &[u8], owner: Option<&Bound<'_, PyAny>>) -> Written;
    fn opaque(&mut self, term: &Term) -> Written;
    /// Any object without a form of its own.
    fn object(&mut self, object: &Bound<'_, PyAny>) -> Written;
    /// Announces about `length` items.
    fn begin_list(&mut self, length: usize) -> Written;
    fn end_list(&mut self, length: usize) -> Written;
    fn begin_tuple(&mut self, arity: usize) -> Written;
    fn end_tuple(&mut self, arity: usize) -> Written;
    fn begin_map(&mut self, size: usize) -> Written;
    /// Fails with `KeyCollision` if two keys are one term.
    fn end_map(&mut self, size: usize, keys: Keys) -> Written;
}

/// Whether the keys of a dict can become one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Two keys never become one term.
    Distinct,
    /// Two keys may become one term: `'a'` and `b'a'` do.
    Unknown,
}
