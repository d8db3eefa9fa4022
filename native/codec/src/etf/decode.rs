//! The external term format to Python objects: a reader for [`read`](crate::read()), over bytes that
//! may be malformed. Called by the host, attached; blocks on nothing.

mod reader;

use pyo3::prelude::*;
use std::borrow::Cow;

use super::Objects;
use super::scan::{Cursor, skip};
use super::tags::{COMPRESSED, VERSION};
use crate::error::Error;
use crate::read::{Fallible, read};
use crate::rules::Rules;

/// Returns the object that the encoded term `input` becomes, like [`read`](read()). Fails if bytes
/// follow the term.
pub fn decode<'py>(
    py: Python<'py>,
    input: &[u8],
    rules: &dyn Rules,
) -> Result<Bound<'py, PyAny>, Error> {
    let mut decoder = Decoder::new(input)?;
    let object = read(py, &mut decoder, rules)?;
    decoder.finish()?;
    Ok(object)
}

/// A cursor in encoded terms.
pub struct Decoder<'a> {
    cursor: Cursor<'a>,
    /// How many elements of the open containers were not reached yet. Each takes a byte at least, so a
    /// container is refused if it has more elements than the rest of the input less these.
    unread: usize,
    /// Whether the next term is an integer without a tag, in a list of bytes.
    is_byte: bool,
    /// The objects that the input may refer to by numbers.
    objects: Option<&'a dyn Objects>,
}

impl<'a> Decoder<'a> {
    /// Makes a decoder. Fails if `input` does not begin with the version byte.
    pub fn new(input: &'a [u8]) -> Result<Self, Error> {
        let what = match input {
            [VERSION, COMPRESSED, ..] => "compressed terms are not read",
            [VERSION, ..] => {
                return Ok(Self {
                    cursor: Cursor { input, at: 1 },
                    unread: 0,
                    is_byte: false,
                    objects: None,
                });
            }
            [] => "the input is empty",
            _ => "not of this version of the format",
        };
        Err(Error::Malformed { at: 0, what })
    }

    /// Lets the input refer to `objects`.
    #[must_use]
    pub fn with_objects(self, objects: &'a dyn Objects) -> Self {
        let objects = Some(objects);
        Self { objects, ..self }
    }

    /// Fails if bytes of the input are left.
    pub fn finish(self) -> Result<(), Error> {
        if self.cursor.left() == 0 {
            return Ok(());
        }
        let (at, what) = (self.cursor.at, "bytes after the term");
        Err(Error::Malformed { at, what })
    }

    /// Counts the elements of a container that is opened. Fails if the input is too short for them.
    fn expect(&mut self, elements: usize) -> Fallible<()> {
        let unread = self.unread.saturating_add(elements);
        if unread > self.cursor.left() {
            let what = "the input is shorter than a length in it";
            return self.cursor.malformed(what);
        }
        self.unread = unread;
        Ok(())
    }

    /// Counts an element that is reached.
    fn advance(&mut self) {
        self.unread = self.unread.saturating_sub(1);
    }

    /// Whether the next term has this tag.
    fn is_tag(&self, tag: u8) -> bool {
        self.cursor.input.get(self.cursor.at) == Some(&tag)
    }

    /// Returns the text of the atom that is the next term, and the position after it.
    fn peek_atom(&self) -> Option<(&'a [u8], Cursor<'a>)> {
        let mut after = self.cursor;
        let (text, _) = after.atom().ok()?;
        Some((text, after))
    }
}

/// Returns the text of an atom.
pub(super) fn text_of(text: &[u8], is_latin1: bool) -> Cow<'_, str> {
    if is_latin1 {
        return text.iter().map(|byte| char::from(*byte)).collect();
    }
    String::from_utf8_lossy(text)
}

impl<'a> Decoder<'a> {
    /// Takes a whole term, and returns its bytes.
    fn take_term(&mut self) -> Fallible<&'a [u8]> {
        let end = skip(self.cursor.input, self.cursor.at)?;
        self.cursor.slice(end - self.cursor.at)
    }
}
