//! A term in the external term format as a row of parts, for a host that builds terms of its own from
//! what a child process has sent. Needs no Python, and blocks on nothing.

use super::scan::{Cursor, skip};
use super::tags::{
    ATOM, ATOM_UTF8, BINARY, INTEGER, LARGE_BIG, LARGE_TUPLE, LIST, MAP, NEW_FLOAT, NIL,
    SMALL_ATOM, SMALL_ATOM_UTF8, SMALL_BIG, SMALL_INTEGER, SMALL_TUPLE, STRING, VERSION,
};
use crate::error::Error;
use crate::protocol::{OBJECT, OPAQUE};
use crate::read::Fallible;

/// One part. The elements of a container follow it.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    Integer(i64),
    /// An integer beyond 64 bits: whether it is negative, and its little-endian magnitude.
    Big(bool, &'a [u8]),
    Float(f64),
    /// The text of an atom, and whether that is Latin-1.
    Atom(&'a [u8], bool),
    Binary(&'a [u8]),
    /// A list of small integers.
    Bytes(&'a [u8]),
    /// A list of so many elements; its tail is one more part.
    List(usize),
    Nil,
    Tuple(usize),
    /// A map of so many entries, each a key and a value.
    Map(usize),
    /// The whole bytes of any other term, or of one that is to be taken as a whole, without a version byte.
    Opaque(&'a [u8]),
    /// A Python object, by its number.
    Object(u64),
}

/// The parts of a term that were not taken yet.
pub struct Parts<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Parts<'a> {
    /// Begins with the first part.
    ///
    /// # Errors
    /// `input` does not begin with the version byte.
    pub fn new(input: &'a [u8]) -> Fallible<Self> {
        let cursor = Cursor { input, at: 1 };
        match input.first() {
            Some(&VERSION) => Ok(Self { cursor }),
            _ => Cursor { input, at: 0 }.malformed("not of this version of the format"),
        }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// The input is malformed; a container has more elements than bytes are left.
    pub fn take(&mut self) -> Fallible<Part<'a>> {
        let cursor = &mut self.cursor;
        let tag = cursor.peek()?;
        Ok(match tag {
            SMALL_INTEGER => {
                let [_, value] = cursor.array()?;
                Part::Integer(i64::from(value))
            }
            INTEGER => {
                let [_, a, b, c, d] = cursor.array()?;
                Part::Integer(i64::from(i32::from_be_bytes([a, b, c, d])))
            }
            SMALL_BIG | LARGE_BIG => {
                let (is_negative, magnitude) = cursor.big()?;
                Part::Big(is_negative, magnitude)
            }
            NEW_FLOAT => {
                let value = cursor.float()?;
                cursor.slice(9)?;
                Part::Float(value)
            }
            ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8 => {
                let (text, is_latin1) = cursor.atom()?;
                Part::Atom(text, is_latin1)
            }
            BINARY => Part::Binary(cursor.bits()?.0),
            STRING => {
                cursor.byte()?;
                let length = cursor.short()?;
                Part::Bytes(cursor.slice(length)?)
            }
            NIL => {
                cursor.byte()?;
                Part::Nil
            }
            LIST => Part::List(self.count(1)?),
            LARGE_TUPLE => Part::Tuple(self.count(1)?),
            MAP => Part::Map(self.count(2)?),
            SMALL_TUPLE => {
                let [_, arity] = cursor.array()?;
                Part::Tuple(usize::from(arity))
            }
            OBJECT => {
                let [_, number @ ..] = cursor.array::<9>()?;
                Part::Object(u64::from_be_bytes(number))
            }
            OPAQUE => {
                cursor.byte()?;
                let end = skip(cursor.input, cursor.at)?;
                Part::Opaque(cursor.slice(end - cursor.at)?)
            }
            _ => {
                let end = skip(cursor.input, cursor.at)?;
                Part::Opaque(cursor.slice(end - cursor.at)?)
            }
        })
    }

    /// Takes a tag and the number of elements, each of which takes `least` bytes at least.
    fn count(&mut self, least: usize) -> Fallible<usize> {
        self.cursor.byte()?;
        let count = self.cursor.word()?;
        if count.saturating_mul(least) > self.cursor.left() {
            let what = "the input is shorter than a length in it";
            return self.cursor.malformed(what);
        }
        Ok(count)
    }

    /// Ends after the last part.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn finish(self) -> Result<(), Error> {
        if self.cursor.left() == 0 {
            return Ok(());
        }
        let (at, what) = (self.cursor.at, "bytes after the term");
        Err(Error::Malformed { at, what })
    }
}

/// Whether `input` is one whole term, without objects: one that the BEAM decodes, but for atoms and funs
/// that it does not know.
#[must_use]
pub fn is_whole(input: &[u8]) -> bool {
    matches!(input, [VERSION, ..]) && skip(input, 1).is_ok_and(|end| end == input.len())
}
