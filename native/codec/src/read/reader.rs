//! The trait of a source of terms. `read` calls it on the thread that converts, attached; no
//! implementation may block.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};

use crate::error::Error;
use crate::view::ByteOwner;

/// A result of the functions that run for every element: boxed, so that it is returned in registers.
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

/// An atom that does not become a `str`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constant {
    True,
    False,
    /// `none`, `nil` or `undefined`.
    None,
}

/// The first element of a pair whose second one is a binary, or a map for an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `{bytes, Binary}`
    Bytes,
    /// `{view, Binary}`
    View,
    /// `{ndarray, Map}`, with a map of three entries.
    Array,
}

/// A cursor in terms, which is at one term. A method that takes a term moves the cursor past it.
///
/// A container is opened, which returns the state of its iteration; a method moves to each of its
/// elements, which the caller takes before it moves to the next. Only `other` may run Python code.
pub trait Reader {
    type List;
    type Tuple;
    type Map;
    /// A position of the cursor, to which `rewind` returns for the text of an error.
    type Mark;

    /// Returns the kind of the term, and takes nothing.
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
    /// Takes a binary; returns an owner that keeps its bytes alive.
    fn held_binary(&mut self) -> Fallible<Box<dyn ByteOwner>>;
    /// Takes a term of the kind `Other`, or a bit string. Returns the object of a handle, or an
    /// `erlang.Term` for any other term.
    fn other<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>>;
    /// Takes a term that is neither an `i64`, a binary nor a container; returns its text, or that of
    /// its kind.
    fn short_text(&mut self) -> Fallible<String>;

    /// Opens a list.
    fn open_list(&mut self) -> Fallible<Self::List>;
    /// Returns the number of items; `None` if the list is known to be improper.
    fn length(&self, list: &Self::List) -> Option<usize>;
    /// Moves to the next item; `false` at the end.
    fn next_item(&mut self, list: &mut Self::List) -> bool;
    /// Closes a list at its end. `false` if the list is improper: then the cursor is at the tail.
    fn close_list(&mut self, list: Self::List) -> Fallible<bool>;

    /// Opens a tuple.
    fn open_tuple(&mut self) -> Fallible<Self::Tuple>;
    /// Returns the number of elements.
    fn arity(&self, tuple: &Self::Tuple) -> usize;
    /// Moves to the binary of `{bytes, Binary}` or `{view, Binary}`, or to the map of `{ndarray, Map}`;
    /// `None`, and nothing is moved, in any other tuple. Called before the first element.
    fn tag(&mut self, tuple: &mut Self::Tuple) -> Option<Tag>;
    /// Moves to the next element. Called once for each.
    fn next_element(&mut self, tuple: &mut Self::Tuple);

    /// Opens a map.
    fn open_map(&mut self) -> Fallible<Self::Map>;
    /// Returns the number of entries.
    fn size(&self, map: &Self::Map) -> usize;
    /// Moves to the next key; `false` at the end.
    fn next_key(&mut self, map: &mut Self::Map) -> bool;
    /// Moves to the value of the key that was read last.
    fn next_entry_value(&mut self, map: &mut Self::Map);

    /// Returns the position of the cursor.
    fn mark(&self) -> Self::Mark;
    /// Moves back to a position.
    fn rewind(&mut self, mark: Self::Mark);
}

/// Makes an integer of any size from its sign and its little-endian magnitude. For implementations.
pub fn integer<'py>(
    py: Python<'py>,
    is_negative: bool,
    magnitude: &[u8],
) -> Fallible<Bound<'py, PyAny>> {
    let from_bytes = py.get_type::<PyInt>().getattr(intern!(py, "from_bytes"))?;
    let value = from_bytes.call1((PyBytes::new(py, magnitude), intern!(py, "little")))?;
    Ok(if is_negative { value.neg()? } else { value })
}
