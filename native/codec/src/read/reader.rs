//! The side of a conversion that terms are read from. Called by `read`, attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};

use crate::error::Error;
use crate::view::ByteOwner;

/// Boxed: on the way of every element, and returned in registers.
pub type Fallible<T> = Result<T, Box<Error>>;

/// The kind of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Float,
    Atom,
    /// A binary or a bit string.
    Bits,
    List,
    Tuple,
    Map,
    /// Pids, ports, references, funs.
    Other,
}

/// An atom that is no text in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constant {
    True,
    False,
    /// `none`, `nil` or `undefined`.
    None,
}

/// The first element of a pair whose second one is a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `{bytes, Binary}`
    Bytes,
    /// `{view, Binary}`
    View,
}

/// A cursor, which stands at a term; a method that takes a term moves past it. A container is opened, which gives a cursor of its own; each
/// of its elements is come to by a method, and then read before the next. Only `other` may run
/// Python code.
pub trait Reader {
    type List;
    type Tuple;
    type Map;
    /// A place to return to, which is done for the text of an error only.
    type Mark;

    fn kind(&mut self) -> Fallible<Kind>;
    /// Takes an integer that is an `i64`; `None`, and nothing is taken, for any other term.
    fn small_integer(&mut self) -> Option<i64>;
    /// Takes any other integer.
    fn big_integer<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>>;
    /// Takes a float; `None`, and nothing is taken, for any other term.
    fn float(&mut self) -> Option<f64>;
    /// Takes an atom that is a constant; `None`, and nothing is taken, for any other atom.
    fn constant(&mut self) -> Option<Constant>;
    /// Takes an atom as text.
    fn atom<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyString>>;
    /// Takes a binary; `None`, and nothing is taken, for another bit string.
    fn binary(&mut self) -> Fallible<Option<&[u8]>>;
    /// Takes a binary, and keeps it alive.
    fn held_binary(&mut self) -> Fallible<Box<dyn ByteOwner>>;
    /// Takes a term of the kind `Other`, or a bit string: the object that it is a handle of, or an
    /// `erlang.Term`.
    fn other<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>>;
    /// Takes what is neither an `i64`, a binary nor a container: the text of it, or of what it is.
    fn short_text(&mut self) -> Fallible<String>;

    fn open_list(&mut self) -> Fallible<Self::List>;
    /// The number of items; `None` if the list is known to be improper.
    fn length(&self, list: &Self::List) -> Option<usize>;
    /// Comes to the next item; `false` at the end.
    fn next_item(&mut self, list: &mut Self::List) -> bool;
    /// Called at the end of a list. `false` if it is improper; then this stands at the tail.
    fn close_list(&mut self, list: Self::List) -> Fallible<bool>;

    fn open_tuple(&mut self) -> Fallible<Self::Tuple>;
    fn arity(&self, tuple: &Self::Tuple) -> usize;
    /// Called at the beginning. Comes to the binary of `{bytes, Binary}` or `{view, Binary}`;
    /// does nothing in any other tuple.
    fn tag(&mut self, tuple: &mut Self::Tuple) -> Option<Tag>;
    /// Comes to the next element. Called once for each.
    fn next_element(&mut self, tuple: &mut Self::Tuple);

    fn open_map(&mut self) -> Fallible<Self::Map>;
    fn size(&self, map: &Self::Map) -> usize;
    /// Comes to the next key; `false` at the end.
    fn next_key(&mut self, map: &mut Self::Map) -> bool;
    /// Comes to the value of the key that was read last.
    fn next_entry_value(&mut self, map: &mut Self::Map);

    fn mark(&self) -> Self::Mark;
    fn rewind(&mut self, mark: Self::Mark);
}

/// An integer of any size, of its sign and little-endian magnitude: for implementations.
pub fn integer<'py>(
    py: Python<'py>,
    is_negative: bool,
    magnitude: &[u8],
) -> Fallible<Bound<'py, PyAny>> {
    let from_bytes = py.get_type::<PyInt>().getattr(intern!(py, "from_bytes"))?;
    let value = from_bytes.call1((PyBytes::new(py, magnitude), intern!(py, "little")))?;
    Ok(if is_negative { value.neg()? } else { value })
}
