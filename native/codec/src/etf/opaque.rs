//! A term without a Python form, kept as the bytes that it was decoded from. Made by the decoder, used
//! through [`crate::Term`]; needs no Python, and blocks on nothing.

use std::any::Any;
use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::decode::text_of;
use super::scan::Cursor;
use super::tags::{
    BIT_BINARY, EXPORT, NEW_FUN, NEW_PID, NEW_PORT, NEW_REFERENCE, NEWER_REFERENCE, PID, PORT,
    REFERENCE, V4_PORT,
};
use crate::opaque::{Opaque, Term};
use crate::read::Fallible;

/// A whole term, without the version byte. Two terms are identical if their bytes are, since a node of
/// the BEAM encodes a term in one way only.
pub(super) struct External {
    bytes: Box<[u8]>,
}

/// Returns the `erlang.Term` over the bytes of a whole term, without the version byte.
#[must_use]
pub fn opaque_term(bytes: &[u8]) -> Term {
    Term::new(External::new(bytes))
}

impl External {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let bytes = bytes.into();
        Self { bytes }
    }

    /// Returns the text of the term as the BEAM prints it, but with the name of the node.
    pub(super) fn describe(&self) -> String {
        let mut cursor = Cursor {
            input: &self.bytes,
            at: 0,
        };
        print(&mut cursor).unwrap_or_else(|_| "#Term".to_owned())
    }

    fn tag(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(0)
    }

    /// Returns the rank of the kind of the term in Erlang's order of terms.
    fn rank(&self) -> u8 {
        match self.tag() {
            REFERENCE | NEW_REFERENCE | NEWER_REFERENCE => 0,
            NEW_FUN | EXPORT => 1,
            PORT | NEW_PORT | V4_PORT => 2,
            PID | NEW_PID => 3,
            _ => 4,
        }
    }
}

/// Takes a term that was checked by `skip`, and returns its text.
fn print(cursor: &mut Cursor<'_>) -> Fallible<String> {
    let tag = cursor.peek()?;
    let mut after = *cursor;
    after.at += 1;
    Ok(match tag {
        BIT_BINARY => {
            let (bytes, bits) = cursor.bits()?;
            let size = bytes.len() * 8 - 8 + usize::from(bits);
            format!("<<{size} bits>>")
        }
        PID | NEW_PID => {
            let node = atom(&mut after)?;
            format!("#Pid<{node}.{}.{}>", after.word()?, after.word()?)
        }
        PORT | NEW_PORT => format!("#Port<{}.{}>", atom(&mut after)?, after.word()?),
        V4_PORT => {
            let node = atom(&mut after)?;
            format!("#Port<{node}.{}>", u64::from_be_bytes(after.array()?))
        }
        REFERENCE => format!("#Ref<{}.{}>", atom(&mut after)?, after.word()?),
        NEW_REFERENCE | NEWER_REFERENCE => words_of_reference(tag, &mut after)?,
        EXPORT => {
            let (module, function) = (atom(&mut after)?, atom(&mut after)?);
            let [_, arity] = after.array()?;
            format!("fun {module}:{function}/{arity}")
        }
        NEW_FUN => {
            after.slice(4 + 1 + 16)?;
            let index = after.word()?;
            after.word()?;
            format!("#Fun<{}.{index}>", atom(&mut after)?)
        }
        _ => {
            let (text, is_latin1) = cursor.atom()?;
            text_of(text, is_latin1).into_owned()
        }
    })
}

/// Takes the rest of a reference, and returns its text, which has the last word first.
fn words_of_reference(tag: u8, after: &mut Cursor<'_>) -> Fallible<String> {
    let words = after.short()?;
    let node = atom(after)?;
    after.slice(if tag == NEW_REFERENCE { 1 } else { 4 })?;
    let mut text = Vec::with_capacity(words);
    for _ in 0..words {
        text.push(format!(".{}", after.word()?));
    }
    text.reverse();
    Ok(format!("#Ref<{node}{}>", text.concat()))
}

fn atom(cursor: &mut Cursor<'_>) -> Fallible<String> {
    let (text, is_latin1) = cursor.atom()?;
    Ok(text_of(text, is_latin1).into_owned())
}

impl Opaque for External {
    fn text(&self) -> String {
        self.describe()
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        hasher.finish()
    }

    fn is_identical(&self, other: &dyn Opaque) -> bool {
        matches!(self.compare(other), Ordering::Equal)
    }

    /// Compares the rank and the bytes; less than the terms of any other implementation.
    fn compare(&self, other: &dyn Opaque) -> Ordering {
        match other.as_any().downcast_ref::<Self>() {
            Some(other) => (self.rank(), &self.bytes).cmp(&(other.rank(), &other.bytes)),
            None => Ordering::Less,
        }
    }

    fn external(&self) -> Option<&[u8]> {
        Some(&self.bytes)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
