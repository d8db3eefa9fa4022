//! The decoder as a [`Reader`]. Called by `read`, attached; runs no Python code and blocks on nothing.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Decoder, text_of};
use crate::etf::opaque::External;
use crate::etf::tags::{
    ATOM, ATOM_UTF8, BINARY, BIT_BINARY, INTEGER, LARGE_BIG, LARGE_TUPLE, LIST, MAP, NEW_FLOAT,
    NIL, SMALL_ATOM, SMALL_ATOM_UTF8, SMALL_BIG, SMALL_INTEGER, SMALL_TUPLE, STRING,
};
use crate::opaque::Term;
use crate::protocol::OBJECT;
use crate::read::{Constant, Fallible, Kind, Reader, Tag, integer};
use crate::view::ByteOwner;

/// The iteration of a list.
pub struct List {
    /// Items that were not reached yet.
    left: usize,
    length: usize,
    form: Form,
}

/// The encoding of a list.
enum Form {
    /// `NIL`.
    Empty,
    /// `STRING`: bytes without tags.
    Bytes,
    /// `LIST`: terms, and a tail.
    Cells,
}

/// The iteration of a tuple or a map.
pub struct Elements {
    /// Entries of a map that were not reached yet; all elements of a tuple.
    left: usize,
}

impl Reader for Decoder<'_> {
    type List = List;
    type Tuple = Elements;
    type Map = Elements;
    type Mark = (usize, usize, bool);

    fn kind(&mut self) -> Fallible<Kind> {
        if self.is_byte {
            return Ok(Kind::Integer);
        }
        Ok(match self.cursor.peek()? {
            SMALL_INTEGER | INTEGER | SMALL_BIG | LARGE_BIG => Kind::Integer,
            NEW_FLOAT => {
                self.cursor.float()?;
                Kind::Float
            }
            ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8 => Kind::Atom,
            BINARY | BIT_BINARY => Kind::Bits,
            NIL | STRING | LIST => Kind::List,
            SMALL_TUPLE | LARGE_TUPLE => Kind::Tuple,
            MAP => Kind::Map,
            OBJECT if self.objects.is_some() => Kind::Other,
            tag => {
                self.cursor.unsupported(tag)?;
                Kind::Other
            }
        })
    }

    #[inline]
    fn small_integer(&mut self) -> Option<i64> {
        let mut after = self.cursor;
        let value = if self.is_byte {
            i64::from(after.byte().ok()?)
        } else {
            match after.peek().ok()? {
                SMALL_INTEGER => after.array().map(|[_, value]| i64::from(value)).ok()?,
                INTEGER => {
                    let [_, a, b, c, d] = after.array().ok()?;
                    i64::from(i32::from_be_bytes([a, b, c, d]))
                }
                SMALL_BIG => {
                    let (is_negative, magnitude) = after.big().ok()?;
                    small(is_negative, magnitude)?
                }
                _ => return None,
            }
        };
        self.is_byte = false;
        self.cursor = after;
        Some(value)
    }

    fn big_integer<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>> {
        let (is_negative, magnitude) = self.cursor.big()?;
        integer(py, is_negative, magnitude)
    }

    fn float(&mut self) -> Option<f64> {
        if self.is_byte || !self.is_tag(NEW_FLOAT) {
            return None;
        }
        let value = self.cursor.float().ok()?;
        self.cursor.at += 9;
        Some(value)
    }

    fn constant(&mut self) -> Option<Constant> {
        let (text, after) = self.peek_atom()?;
        let constant = match text {
            b"true" => Constant::True,
            b"false" => Constant::False,
            b"none" | b"nil" | b"undefined" => Constant::None,
            _ => return None,
        };
        self.cursor = after;
        Some(constant)
    }

    fn atom<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyString>> {
        let (text, is_latin1) = self.cursor.atom()?;
        Ok(PyString::new(py, &text_of(text, is_latin1)))
    }

    fn binary(&mut self) -> Fallible<Option<&[u8]>> {
        let mut after = self.cursor;
        let (bytes, bits) = after.bits()?;
        if bits != 8 {
            return Ok(None);
        }
        self.cursor = after;
        Ok(Some(bytes))
    }

    fn held_binary(&mut self) -> Fallible<Box<dyn ByteOwner>> {
        let (bytes, _) = self.cursor.bits()?;
        Ok(Box::new(Box::<[u8]>::from(bytes)))
    }

    fn other<'py>(&mut self, py: Python<'py>) -> Fallible<Bound<'py, PyAny>> {
        if let Some(objects) = self.objects
            && self.is_tag(OBJECT)
        {
            let [_, number @ ..] = self.cursor.array::<9>()?;
            let found = objects.find(py, u64::from_be_bytes(number));
            return match found {
                Some(object) => Ok(object),
                None => self.cursor.malformed("an unknown object"),
            };
        }
        let external = self.take_term()?;
        Ok(Bound::new(py, Term::new(External::new(external)))?.into_any())
    }

    fn short_text(&mut self) -> Fallible<String> {
        if self.is_tag(SMALL_BIG) || self.is_tag(LARGE_BIG) {
            self.cursor.big()?;
            return Ok("<big integer>".to_owned());
        }
        if let Some(value) = self.float() {
            return Ok(format!("{value:?}"));
        }
        let is_bits = self.is_tag(BIT_BINARY);
        let external = self.take_term()?;
        if is_bits {
            return Ok("<bitstring>".to_owned());
        }
        Ok(External::new(external).describe())
    }

    fn open_list(&mut self) -> Fallible<List> {
        let (length, form) = match self.cursor.byte()? {
            NIL => (0, Form::Empty),
            STRING => {
                let length = self.cursor.short()?;
                self.expect(length)?;
                (length, Form::Bytes)
            }
            _ => {
                let length = self.cursor.word()?;
                self.expect(length.saturating_add(1))?;
                (length, Form::Cells)
            }
        };
        Ok(List {
            left: length,
            length,
            form,
        })
    }

    fn length(&self, list: &List) -> Option<usize> {
        Some(list.length)
    }

    #[inline]
    fn next_item(&mut self, list: &mut List) -> bool {
        if list.left == 0 {
            return false;
        }
        list.left -= 1;
        self.advance();
        self.is_byte = matches!(list.form, Form::Bytes);
        true
    }

    fn close_list(&mut self, list: List) -> Fallible<bool> {
        if !matches!(list.form, Form::Cells) {
            return Ok(true);
        }
        self.advance();
        let is_proper = self.cursor.peek()? == NIL;
        self.cursor.at += usize::from(is_proper);
        Ok(is_proper)
    }

    fn open_tuple(&mut self) -> Fallible<Elements> {
        let left = match self.cursor.byte()? {
            SMALL_TUPLE => usize::from(self.cursor.byte()?),
            _ => self.cursor.word()?,
        };
        self.expect(left)?;
        Ok(Elements { left })
    }

    fn arity(&self, tuple: &Elements) -> usize {
        tuple.left
    }

    fn tag(&mut self, tuple: &mut Elements) -> Option<Tag> {
        if tuple.left != 2 {
            return None;
        }
        let (text, mut after) = self.peek_atom()?;
        let tag = match text {
            b"bytes" => Tag::Bytes,
            b"view" => Tag::View,
            b"ndarray" => Tag::Array,
            _ => return None,
        };
        let start = after.at;
        let fits = match tag {
            Tag::Bytes | Tag::View => matches!(after.bits(), Ok((_, 8))),
            Tag::Array => matches!((after.byte(), after.word()), (Ok(MAP), Ok(3))),
        };
        if !fits {
            return None;
        }
        self.cursor.at = start;
        self.advance();
        self.advance();
        Some(tag)
    }

    fn next_element(&mut self, _tuple: &mut Elements) {
        self.advance();
    }

    fn open_map(&mut self) -> Fallible<Elements> {
        // `read_kwargs` opens a map without a call of `kind`.
        if self.cursor.byte()? != MAP {
            return self.cursor.malformed("not a map");
        }
        let left = self.cursor.word()?;
        self.expect(left.saturating_mul(2))?;
        Ok(Elements { left })
    }

    fn size(&self, map: &Elements) -> usize {
        map.left
    }

    fn next_key(&mut self, map: &mut Elements) -> bool {
        if map.left == 0 {
            return false;
        }
        map.left -= 1;
        self.advance();
        true
    }

    fn next_entry_value(&mut self, _map: &mut Elements) {
        self.advance();
    }

    fn mark(&self) -> Self::Mark {
        (self.cursor.at, self.unread, self.is_byte)
    }

    fn rewind(&mut self, mark: Self::Mark) {
        (self.cursor.at, self.unread, self.is_byte) = mark;
    }
}

/// Returns a big integer that is an `i64`; `None` for any other.
fn small(is_negative: bool, magnitude: &[u8]) -> Option<i64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
    let word = u64::from_le_bytes(bytes);
    if is_negative {
        0_i64.checked_sub_unsigned(word)
    } else {
        i64::try_from(word).ok()
    }
}
