//! The external term format to Python objects: what [`read`](crate::read()) asks a reader for, out
//! of bytes that may be anything.

mod reader;

use pyo3::prelude::*;
use std::borrow::Cow;

use super::scan::{Cursor, skip};
use super::tags::{COMPRESSED, VERSION};
use crate::error::Error;
use crate::read::{Fallible, read};

/// The object that one encoded term becomes, which must be all of `input`. As [`read`](read()).
pub fn decode<'py>(
    py: Python<'py>,
    input: &[u8],
    must_stop: &dyn Fn() -> bool,
) -> Result<Bound<'py, PyAny>, Error> {
    let mut decoder = Decoder::new(input)?;
    let object = read(py, &mut decoder, must_stop)?;
    decoder.finish()?;
    Ok(object)
}

/// A cursor in encoded terms.
pub struct Decoder<'a> {
    cursor: Cursor<'a>,
    /// Elements of the open containers that have not been come to, each a byte at least: no
    /// container is made that is longer than what is left of the input less these.
    owed: usize,
    /// The next term is an integer without a tag, in a list of bytes.
    is_byte: bool,
}

impl<'a> Decoder<'a> {
    /// Fails if `input` does not begin with the version.
    pub fn new(input: &'a [u8]) -> Result<Self, Error> {
        let what = match input {
            [VERSION, COMPRESSED, ..] => "compressed terms are not read",
            [VERSION, ..] => {
                return Ok(Self {
                    cursor: Cursor { input, at: 1 },
                    owed: 0,
                    is_byte: false,
                });
            }
            [] => "the input is empty",
            _ => "not of this version of the format",
        };
        Err(Error::Malformed { at: 0, what })
    }

    /// Fails if something is left of the input.
    pub fn finish(self) -> Result<(), Error> {
        if self.cursor.left() == 0 {
            return Ok(());
        }
        let (at, what) = (self.cursor.at, "bytes after the term");
        Err(Error::Malformed { at, what })
    }

    /// A container of that many elements begins.
    fn owe(&mut self, elements: usize) -> Fallible<()> {
        let owed = self.owed.saturating_add(elements);
        if owed > self.cursor.left() {
            let what = "the input is shorter than a length in it";
            return self.cursor.malformed(what);
        }
        self.owed = owed;
        Ok(())
    }

    fn come_to_next(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    fn is_tag(&self, tag: u8) -> bool {
        self.cursor.input.get(self.cursor.at) == Some(&tag)
    }

    /// The text of an atom that comes next, and where it ends.
    fn peek_atom(&self) -> Option<(&'a [u8], Cursor<'a>)> {
        let mut after = self.cursor;
        let (text, _) = after.atom().ok()?;
        Some((text, after))
    }
}

/// Text of an atom.
pub(super) fn text_of(text: &[u8], is_latin1: bool) -> Cow<'_, str> {
    if is_latin1 {
        return text.iter().map(|byte| char::from(*byte)).collect();
    }
    String::from_utf8_lossy(text)
}

impl<'a> Decoder<'a> {
    fn take_term(&mut self) -> Fallible<&'a [u8]> {
        let end = skip(self.cursor.input, self.cursor.at)?;
        self.cursor.slice(end - self.cursor.at)
    }
}
