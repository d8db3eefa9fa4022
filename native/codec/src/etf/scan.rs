//! A bounded cursor over the bytes of external terms, and the search for the end of a term. Called by
//! the decoder and the encoder; needs no Python, and blocks on nothing.

use super::tags::{
    ATOM, ATOM_UTF8, BINARY, BIT_BINARY, COMPRESSED, EXPORT, INTEGER, LARGE_BIG, LARGE_TUPLE, LIST,
    MAP, NEW_FLOAT, NEW_FUN, NEW_PID, NEW_PORT, NEW_REFERENCE, NEWER_REFERENCE, NIL, PID, PORT,
    REFERENCE, SMALL_ATOM, SMALL_ATOM_UTF8, SMALL_BIG, SMALL_INTEGER, SMALL_TUPLE, STRING, V4_PORT,
};
use crate::error::Error;
use crate::protocol::{OBJECT, OPAQUE};
use crate::read::Fallible;

/// Most characters of an atom.
const MAX_ATOM: usize = 255;

/// A position in the input. A method that takes bytes fails if fewer are left.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) input: &'a [u8],
    /// The index of the next byte, perhaps after the end.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Returns how many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.input.len().saturating_sub(self.at)
    }

    /// Returns an error at this position.
    #[cold]
    pub(super) fn malformed<T>(&self, what: &'static str) -> Fallible<T> {
        let at = self.at;
        Err(Box::new(Error::Malformed { at, what }))
    }

    /// Returns the next byte, and takes nothing.
    pub(super) fn peek(&self) -> Fallible<u8> {
        match self.input.get(self.at) {
            Some(tag) => Ok(*tag),
            None => self.malformed("the input is cut"),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Fallible<[u8; N]> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        match rest.first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => self.malformed("the input is cut"),
        }
    }

    pub(super) fn byte(&mut self) -> Fallible<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn short(&mut self) -> Fallible<usize> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    pub(super) fn word(&mut self) -> Fallible<usize> {
        let word = u32::from_be_bytes(self.array()?);
        // A `usize` has 32 bits at least on every platform of the BEAM.
        Ok(word as usize)
    }

    pub(super) fn slice(&mut self, size: usize) -> Fallible<&'a [u8]> {
        if size > self.left() {
            return self.malformed("the input is shorter than a length in it");
        }
        let slice = self.input.get(self.at..self.at + size).unwrap_or_default();
        self.at += size;
        Ok(slice)
    }

    /// Takes an atom; returns its text, and whether that is Latin-1.
    pub(super) fn atom(&mut self) -> Fallible<(&'a [u8], bool)> {
        let tag = self.byte()?;
        let size = match tag {
            ATOM | ATOM_UTF8 => self.short()?,
            SMALL_ATOM | SMALL_ATOM_UTF8 => usize::from(self.byte()?),
            _ => return self.malformed("not an atom"),
        };
        let text = self.slice(size)?;
        let is_latin1 = matches!(tag, ATOM | SMALL_ATOM);
        let is_text = is_latin1 && size <= MAX_ATOM
            || std::str::from_utf8(text).is_ok_and(|text| text.chars().count() <= MAX_ATOM);
        if !is_text {
            return self.malformed("not the text of an atom");
        }
        Ok((text, is_latin1))
    }

    /// Takes a binary or a bit string; returns its bytes, and how many bits of the last byte are used.
    pub(super) fn bits(&mut self) -> Fallible<(&'a [u8], u8)> {
        match self.byte()? {
            BINARY => {
                let size = self.word()?;
                Ok((self.slice(size)?, 8))
            }
            BIT_BINARY => {
                let (size, bits) = (self.word()?, self.byte()?);
                if bits > 8 || (bits == 0) != (size == 0) {
                    return self.malformed("not a bit string");
                }
                Ok((self.slice(size)?, if bits == 0 { 8 } else { bits }))
            }
            _ => self.malformed("not a binary"),
        }
    }

    /// Returns the float at this position, and takes nothing. Fails if it is not finite, as the BEAM
    /// does.
    pub(super) fn float(&self) -> Fallible<f64> {
        let mut after = *self;
        match after.array().map(|[_, bytes @ ..]: [u8; 9]| bytes) {
            Ok(bytes) if f64::from_be_bytes(bytes).is_finite() => Ok(f64::from_be_bytes(bytes)),
            _ => self.malformed("not a float"),
        }
    }

    /// Takes a big integer; returns whether it is negative, and its little-endian magnitude.
    pub(super) fn big(&mut self) -> Fallible<(bool, &'a [u8])> {
        let size = match self.peek()? {
            SMALL_BIG => self.array().map(|[_, size]| usize::from(size))?,
            LARGE_BIG => {
                self.at += 1;
                self.word()?
            }
            // A small integer, which `small_integer` would have taken if it were complete.
            _ => return self.malformed("the input is cut"),
        };
        let is_negative = self.byte()? != 0;
        Ok((is_negative, self.slice(size)?))
    }

    /// Takes a term without the terms in it, which follow; returns how many those are.
    fn skip_head(&mut self) -> Fallible<usize> {
        let tag = self.peek()?;
        let mut fixed = |size: usize| self.slice(1 + size).map(|_| 0);
        match tag {
            SMALL_INTEGER => fixed(1),
            INTEGER => fixed(4),
            NEW_FLOAT => fixed(8),
            NIL => fixed(0),
            ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8 => self.atom().map(|_| 0),
            BINARY | BIT_BINARY => self.bits().map(|_| 0),
            SMALL_BIG | LARGE_BIG => self.big().map(|_| 0),
            STRING => {
                self.at += 1;
                let size = self.short()?;
                self.slice(size).map(|_| 0)
            }
            LIST | LARGE_TUPLE | MAP => {
                self.at += 1;
                let size = self.word()?;
                Ok(match tag {
                    LIST => size.saturating_add(1),
                    MAP => size.saturating_mul(2),
                    _ => size,
                })
            }
            SMALL_TUPLE => {
                self.at += 1;
                self.byte().map(usize::from)
            }
            _ => self.skip_other(tag),
        }
    }

    /// Takes a pid, a port, a reference or a fun, like `skip_head`.
    fn skip_other(&mut self, tag: u8) -> Fallible<usize> {
        self.unsupported(tag)?;
        self.at += 1;
        match tag {
            PID | NEW_PID | PORT | NEW_PORT | V4_PORT | REFERENCE => {
                self.atom()?;
                let size = match tag {
                    PID => 9,
                    NEW_PID | V4_PORT => 12,
                    NEW_PORT => 8,
                    _ => 5,
                };
                self.slice(size)?;
                Ok(0)
            }
            NEW_REFERENCE | NEWER_REFERENCE => {
                let words = self.short()?;
                self.atom()?;
                let creation = if tag == NEW_REFERENCE { 1 } else { 4 };
                self.slice(creation + 4 * words)?;
                Ok(0)
            }
            // Module, function, arity.
            EXPORT => Ok(3),
            _ => {
                // Size, arity, unique, index.
                self.slice(4 + 1 + 16 + 4)?;
                let free = self.word()?;
                // Module, old index, old unique, pid.
                Ok(free.saturating_add(4))
            }
        }
    }

    /// Fails for a tag that begins no term.
    pub(super) fn unsupported(&self, tag: u8) -> Fallible<()> {
        match tag {
            PID | NEW_PID | PORT | NEW_PORT | V4_PORT | REFERENCE | NEW_REFERENCE
            | NEWER_REFERENCE | NEW_FUN | EXPORT => Ok(()),
            COMPRESSED => self.malformed("compressed terms are not read"),
            _ => self.malformed("an unknown tag"),
        }
    }
}

/// Returns the end of the term that begins at `at`. A loop, since the depth of a term is not bounded.
pub(super) fn skip(input: &[u8], at: usize) -> Fallible<usize> {
    skip_by(input, at, Cursor::skip_head)
}

/// Like `skip`, for a term that may have objects in it.
pub(super) fn skip_with_objects(input: &[u8], at: usize) -> Fallible<usize> {
    skip_by(input, at, |cursor| match cursor.peek()? {
        OBJECT => cursor.slice(9).map(|_| 0),
        OPAQUE => cursor.byte().map(|_| 1),
        _ => cursor.skip_head(),
    })
}

fn skip_by<'a>(
    input: &'a [u8],
    at: usize,
    skip_head: impl Fn(&mut Cursor<'a>) -> Fallible<usize>,
) -> Fallible<usize> {
    let mut cursor = Cursor { input, at };
    let mut terms = 1_usize;
    while terms > 0 {
        // Each term takes a byte at least, so the loop ends within the input.
        if terms > cursor.left() {
            return cursor.malformed("the input is shorter than a length in it");
        }
        terms = (terms - 1).saturating_add(skip_head(&mut cursor)?);
    }
    Ok(cursor.at)
}
