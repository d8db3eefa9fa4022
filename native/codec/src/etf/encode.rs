//! Python objects to the external term format: a [`Writer`]. Called by the walk of
//! [`write`](crate::write()), attached; runs no Python code and blocks on nothing.

use pyo3::prelude::*;

use super::Objects;
use super::owned_bytes::OwnedBytes;
use super::scan::skip_with_objects;
use super::tags::{
    BINARY, INTEGER, LARGE_BIG, LARGE_TUPLE, LIST, MAP, NEW_FLOAT, NIL, SMALL_ATOM,
    SMALL_ATOM_UTF8, SMALL_BIG, SMALL_INTEGER, SMALL_TUPLE, VERSION,
};
use crate::error::{Error, Stop, Why};
use crate::frame::{Body, MIN_MEMORY};
use crate::opaque::Term;
use crate::protocol::{OBJECT, OPAQUE};
use crate::rules::NoneAtom;
use crate::write::{Keys, Writer, Written};

/// The bytes that are reserved for each element of a list or a map.
const TYPICAL_SIZE: usize = 10;

/// An encoder of one term. Refuses objects that would become handles, unless [`Objects`] keep them, terms
/// that only the BEAM can write, and binaries that are too big to be copied.
pub struct Encoder<'a> {
    body: Body<'a>,
    /// Big binaries stay where they are.
    shares: bool,
    /// The indices at which the open lists and maps begin, outermost first.
    open: Vec<usize>,
    max_binary: usize,
    objects: Option<&'a dyn Objects>,
    has_own_tags: bool,
}

impl<'a> Encoder<'a> {
    /// Makes an encoder that refuses binaries of more than `max_binary` bytes.
    pub fn new(max_binary: usize) -> Self {
        let mut body = Body::default();
        body.bytes.reserve(1 << 10);
        Self {
            max_binary,
            shares: false,
            ..Self::after(body, None)
        }
    }

    /// Makes an encoder that appends the term to `body`, and that has `objects` keep what would become
    /// a handle.
    pub fn after(mut body: Body<'a>, objects: Option<&'a dyn Objects>) -> Self {
        body.bytes.push(VERSION);
        Self {
            body,
            shares: true,
            open: Vec::new(),
            max_binary: usize::MAX,
            objects,
            has_own_tags: false,
        }
    }

    /// Whether the term has an object, which was written by its number, a term to take as a whole, or a
    /// binary that is shared.
    pub fn is_special(&self) -> bool {
        self.has_own_tags || self.body.has_pieces()
    }

    /// Adds an atom whose name is at most 255 bytes of Latin-1.
    pub fn latin1_atom(&mut self, name: &[u8]) {
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        self.body.bytes.extend_from_slice(&[SMALL_ATOM, length]);
        let name = name.get(..usize::from(length));
        self.body.bytes.extend_from_slice(name.unwrap_or_default());
    }

    /// Adds an object by the number that its keeper knows it by.
    pub fn object_number(&mut self, number: u64) {
        self.has_own_tags = true;
        self.body.bytes.push(OBJECT);
        self.body.bytes.extend(number.to_be_bytes());
    }

    /// Adds a whole term in the external term format, without the version byte.
    pub fn external(&mut self, term: &[u8]) {
        self.body.bytes.extend_from_slice(term);
    }

    /// Returns the encoded term, with the version byte.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.body.flatten(0);
        self.body.bytes
    }

    /// Returns what the term was appended to.
    pub fn into_body(self) -> Body<'a> {
        self.body
    }

    /// Adds a big binary, which stays where it is.
    pub fn shared_binary(&mut self, bytes: impl AsRef<[u8]> + Send + 'a) -> Written {
        self.head(BINARY, bytes.as_ref().len())?;
        self.body.share(bytes);
        Ok(())
    }

    /// Adds a tag and a length of four bytes.
    fn head(&mut self, tag: u8, length: usize) -> Written {
        let Ok(length) = u32::try_from(length) else {
            return Err(Stop::Refused);
        };
        let [a, b, c, d] = length.to_be_bytes();
        self.body.bytes.extend_from_slice(&[tag, a, b, c, d]);
        Ok(())
    }

    /// Begins a list or a map. `end` replaces the number of elements, which may change before that.
    fn begin(&mut self, tag: u8, elements: usize) -> Written {
        self.body
            .bytes
            .reserve(elements.saturating_mul(TYPICAL_SIZE));
        self.open.push(self.body.bytes.len());
        self.head(tag, elements)
    }

    /// Ends the innermost list or map; returns the index of its first element.
    fn end(&mut self, length: usize) -> Result<usize, Stop> {
        let start = self.open.pop().ok_or(Stop::Refused)?;
        let length = u32::try_from(length).map_err(|_| Stop::Refused)?;
        let head = self.body.bytes.get_mut(start + 1..start + 5);
        head.ok_or(Stop::Refused)?
            .copy_from_slice(&length.to_be_bytes());
        Ok(start + 5)
    }

    /// Fails if two keys of the map have the same bytes: each term is encoded in one way only. `first`
    /// is the index of the first key.
    fn check_keys(&mut self, first: usize, size: usize) -> Written {
        self.body.flatten(first);
        let mut keys = Vec::with_capacity(size);
        let mut at = first;
        for _ in 0..size {
            let end = skip_with_objects(&self.body.bytes, at)?;
            keys.push(self.body.bytes.get(at..end));
            at = skip_with_objects(&self.body.bytes, end)?;
        }
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::unconvertible(Why::KeyCollision, "dict").into());
        }
        Ok(())
    }
}

impl Writer for Encoder<'_> {
    fn none(&mut self, atom: NoneAtom) -> Written {
        self.atom(atom.name())
    }

    fn boolean(&mut self, value: bool) -> Written {
        self.atom(if value { "true" } else { "false" })
    }

    fn atom(&mut self, name: &'static str) -> Written {
        let length = u8::try_from(name.len()).map_err(|_| Stop::Refused)?;
        self.body
            .bytes
            .extend_from_slice(&[SMALL_ATOM_UTF8, length]);
        self.body.bytes.extend_from_slice(name.as_bytes());
        Ok(())
    }

    #[inline]
    fn integer(&mut self, value: i64) -> Written {
        if let Ok(small) = u8::try_from(value) {
            self.body.bytes.extend_from_slice(&[SMALL_INTEGER, small]);
        } else if let Ok(word) = i32::try_from(value) {
            let [a, b, c, d] = word.to_be_bytes();
            self.body.bytes.extend_from_slice(&[INTEGER, a, b, c, d]);
        } else {
            let magnitude = value.unsigned_abs().to_le_bytes();
            let size = magnitude.iter().rposition(|byte| *byte != 0);
            let size = size.map_or(0, |last| last + 1);
            return self.big_integer(value < 0, magnitude.get(..size).unwrap_or(&magnitude));
        }
        Ok(())
    }

    fn big_integer(&mut self, is_negative: bool, magnitude: &[u8]) -> Written {
        if let Ok(size) = u8::try_from(magnitude.len()) {
            self.body.bytes.extend_from_slice(&[SMALL_BIG, size]);
        } else {
            self.head(LARGE_BIG, magnitude.len())?;
        }
        self.body.bytes.push(u8::from(is_negative));
        self.body.bytes.extend_from_slice(magnitude);
        Ok(())
    }

    #[inline]
    fn float(&mut self, value: f64) -> Written {
        if value.is_finite() {
            let mut bytes = [NEW_FLOAT; 9];
            bytes[1..].copy_from_slice(&value.to_be_bytes());
            self.body.bytes.extend_from_slice(&bytes);
            return Ok(());
        }
        self.atom(if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "infinity"
        } else {
            "neg_infinity"
        })
    }

    #[inline]
    fn binary(&mut self, bytes: &[u8], owner: Option<&Bound<'_, PyAny>>) -> Written {
        if bytes.len() > self.max_binary {
            return Err(Stop::Refused);
        }
        if self.shares
            && bytes.len() >= MIN_MEMORY
            && let Some(owner) = owner
        {
            return self.shared_binary(OwnedBytes::new(bytes, owner));
        }
        self.head(BINARY, bytes.len())?;
        self.body.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn opaque(&mut self, term: &Term) -> Written {
        let external = term.opaque().external().ok_or(Stop::Refused)?;
        let parts = [LIST, SMALL_TUPLE, LARGE_TUPLE, MAP];
        if self.shares && external.first().is_some_and(|tag| parts.contains(tag)) {
            // An improper list, or a term that is too deep: the other side takes it as a whole.
            self.has_own_tags = true;
            self.body.bytes.push(OPAQUE);
        }
        self.body.bytes.extend_from_slice(external);
        Ok(())
    }

    fn object(&mut self, object: &Bound<'_, PyAny>) -> Written {
        let objects = self.objects.ok_or(Stop::Refused)?;
        self.object_number(objects.keep(object));
        Ok(())
    }

    fn begin_list(&mut self, length: usize) -> Written {
        self.begin(LIST, length)
    }

    fn end_list(&mut self, length: usize) -> Written {
        let first = self.end(length)?;
        if length == 0 {
            // An empty list is `NIL` alone, without a head.
            self.body.bytes.truncate(first - 5);
        }
        self.body.bytes.push(NIL);
        Ok(())
    }

    fn begin_tuple(&mut self, arity: usize) -> Written {
        if let Ok(arity) = u8::try_from(arity) {
            self.body.bytes.extend_from_slice(&[SMALL_TUPLE, arity]);
            return Ok(());
        }
        self.head(LARGE_TUPLE, arity)
    }

    fn end_tuple(&mut self, _arity: usize) -> Written {
        Ok(())
    }

    fn begin_map(&mut self, size: usize) -> Written {
        self.begin(MAP, size)
    }

    fn end_map(&mut self, size: usize, keys: Keys) -> Written {
        let first = self.end(size)?;
        match keys {
            Keys::Unknown if size > 1 => self.check_keys(first, size),
            _ => Ok(()),
        }
    }
}
