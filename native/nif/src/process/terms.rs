//! Terms of the BEAM in frames: the external term format, with objects of the child by their numbers.
//!
//! `encode` runs on the scheduler that submits, `decode` on the thread that reads from the children; both
//! are bounded in depth. What a child says is hostile: `decode` makes no atoms.

use rustler::sys::{self, enif_binary_to_term};
use rustler::{
    Atom, Binary, Encoder as _, Env, ListIterator, MapIterator, ResourceArc, Term, TermType,
};
use std::mem::MaybeUninit;
use std::sync::Arc;

use py_codec::etf::{Encoder, Part, Parts};
use py_codec::frame::{Body, MIN_MEMORY};
use py_codec::{Keys, MAX_DEPTH, Writer, Written};

use super::memory::{SharedMemory, binary};
use crate::atoms;
use crate::error::{Error, Why};
use crate::host::existing_atom;
use crate::term::{MIN_SHARED, Object, ObjectOwner, ProcessObject, TermWriter};

/// `ERL_NIF_BIN2TERM_SAFE`: refuses what would make an atom.
const SAFE: u32 = 0x2000_0000;

/// Appends a whole term, for the worker with the id `owner`.
pub(super) fn encode<'a>(term: Term<'a>, owner: u64, body: &mut Body<'a>) -> Result<(), Error> {
    let encoder = Encoder::after(std::mem::take(body), None);
    let mut encoding = Encoding { owner, encoder };
    let encoded = encoding.term(term);
    *body = encoding.encoder.into_body();
    encoded
}

/// A container whose elements are not all appended yet.
enum Open<'a> {
    List(ListIterator<'a>, usize),
    Tuple(std::vec::IntoIter<Term<'a>>),
    /// The value of the key that was appended last comes next. Boxed: the iterator is many times as big as the
    /// others.
    Map(Box<MapIterator<'a>>, Option<Term<'a>>, usize),
}

impl<'a> Open<'a> {
    fn next(&mut self) -> Option<Term<'a>> {
        match self {
            Self::List(items, _) => items.next(),
            Self::Tuple(elements) => elements.next(),
            Self::Map(entries, value, _) => value.take().or_else(|| {
                let (key, next) = entries.next()?;
                *value = Some(next);
                Some(key)
            }),
        }
    }
}

struct Encoding<'a> {
    owner: u64,
    encoder: Encoder<'a>,
}

impl<'a> Encoding<'a> {
    /// Appends a term. The containers that are open stand in a vector: the stack of a scheduler is small.
    fn term(&mut self, term: Term<'a>) -> Result<(), Error> {
        let Some(outermost) = self.begin(term)? else {
            return Ok(());
        };
        let mut open = vec![outermost];
        'next: loop {
            let depth = open.len();
            let Some(top) = open.last_mut() else {
                return Ok(());
            };
            while let Some(inner) = top.next() {
                if depth > MAX_DEPTH {
                    return Err(Error::unconvertible(Why::TooDeep, "term"));
                }
                if let Some(container) = self.begin(inner)? {
                    open.push(container);
                    continue 'next;
                }
            }
            match top {
                Open::List(_, length) => written(self.encoder.end_list(*length))?,
                Open::Map(_, _, size) => written(self.encoder.end_map(*size, Keys::Distinct))?,
                Open::Tuple(_) => {}
            }
            open.pop();
        }
    }

    /// Appends a term without elements, or the begin of a container, which is returned.
    fn begin(&mut self, term: Term<'a>) -> Result<Option<Open<'a>>, Error> {
        match term.get_type() {
            TermType::List => return self.list(term).map(Some),
            TermType::Tuple => return self.tuple(term).map(Some),
            TermType::Map => return self.map(term).map(Some),
            TermType::Ref => self.reference(term)?,
            TermType::Integer => match term.decode() {
                Ok(value) => written(self.encoder.integer(value))?,
                Err(_) => self.rare(term),
            },
            TermType::Float => match term.decode() {
                Ok(value) => written(self.encoder.float(value))?,
                Err(_) => self.rare(term),
            },
            TermType::Atom => self.atom(term),
            TermType::Binary => match Binary::from_term(term) {
                Ok(binary) if binary.len() >= MIN_MEMORY => {
                    written(self.encoder.shared_binary(binary.as_slice()))?;
                }
                Ok(binary) => written(self.encoder.binary(&binary, None))?,
                Err(_) => self.rare(term),
            },
            _ => self.rare(term),
        }
        Ok(None)
    }

    /// Appends a term as the BEAM encodes it.
    fn rare(&mut self, term: Term<'_>) {
        let external = term.to_binary();
        self.encoder.external(external.get(1..).unwrap_or_default());
    }

    fn atom(&mut self, term: Term<'_>) {
        let mut name = [0_u8; 256];
        let latin1 = sys::ErlNifCharEncoding::ERL_NIF_LATIN1;
        let env = term.get_env().as_c_arg();
        // SAFETY: the buffer is as long as is said; the result is 0, or the length with the final zero.
        let length = unsafe {
            let buffer = name.as_mut_ptr().cast();
            sys::enif_get_atom(env, term.as_c_arg(), buffer, 256, latin1)
        };
        let length = usize::try_from(length).ok();
        let length = length.and_then(|length| length.checked_sub(1));
        match length.and_then(|length| name.get(..length)) {
            Some(name) => self.encoder.latin1_atom(name),
            // A name beyond Latin-1.
            None => self.rare(term),
        }
    }

    fn list(&mut self, term: Term<'a>) -> Result<Open<'a>, Error> {
        let Ok(length) = term.list_length() else {
            return Err(Error::unconvertible(Why::ImproperList, format!("{term:?}")));
        };
        written(self.encoder.begin_list(length))?;
        let items: ListIterator<'a> = term.decode().map_err(|_| too_large())?;
        Ok(Open::List(items, length))
    }

    fn tuple(&mut self, term: Term<'a>) -> Result<Open<'a>, Error> {
        let mut elements = rustler::types::tuple::get_tuple(term).map_err(|_| too_large())?;
        written(self.encoder.begin_tuple(elements.len()))?;
        // The memory of a binary cannot be shared with a child: a view becomes bytes.
        if let [tag, bytes] = &elements[..]
            && atoms::view() == *tag
            && bytes.is_binary()
        {
            self.encoder.latin1_atom(b"bytes");
            elements.remove(0);
        }
        Ok(Open::Tuple(elements.into_iter()))
    }

    fn map(&mut self, term: Term<'a>) -> Result<Open<'a>, Error> {
        let entries = MapIterator::new(term).ok_or_else(too_large)?;
        let size = term.map_size().map_err(|_| too_large())?;
        written(self.encoder.begin_map(size))?;
        Ok(Open::Map(Box::new(entries), None, size))
    }

    /// Appends an object of the child by its number. Another object is refused; a reference is one.
    fn reference(&mut self, term: Term<'_>) -> Result<(), Error> {
        let foreign = || Error::unconvertible(Why::ForeignObject, "an object of another worker");
        match term.decode::<ResourceArc<ProcessObject>>() {
            Ok(object) if object.owner.id() == self.owner => {
                self.encoder.object_number(object.number);
                Ok(())
            }
            Ok(_) => Err(foreign()),
            Err(_) if term.decode::<ResourceArc<Object>>().is_ok() => Err(foreign()),
            Err(_) => {
                self.rare(term);
                Ok(())
            }
        }
    }
}

/// Returns the error for a part that the format has no room for.
fn written(written: Written) -> Result<(), Error> {
    written.map_err(|_| too_large())
}

fn too_large() -> Error {
    Error::unconvertible(Why::TooLarge, "term")
}

/// Returns the term that a child has sent; `None` if the bytes are no term, or one with an atom that does
/// not exist.
pub(super) fn decode<'a>(
    env: Env<'a>,
    bytes: &[u8],
    memory: Option<&ResourceArc<SharedMemory>>,
    owner: &Arc<dyn ObjectOwner>,
) -> Option<(Term<'a>, bool)> {
    let mut parts = Parts::new(bytes).ok()?;
    let mut writer = TermWriter::new(env);
    let decoding = Decoding { env, memory, owner };
    decoding.term(&mut parts, &mut writer, 0)?;
    parts.finish().ok()?;
    let has_garbage = writer.has_garbage();
    Some((writer.into_term(), has_garbage))
}

struct Decoding<'a, 'o> {
    env: Env<'a>,
    /// What the bytes are in, if the child shares them.
    memory: Option<&'o ResourceArc<SharedMemory>>,
    owner: &'o Arc<dyn ObjectOwner>,
}

impl<'a> Decoding<'a, '_> {
    fn term(&self, parts: &mut Parts<'_>, writer: &mut TermWriter<'a>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let elements = |parts: &mut Parts<'_>, writer: &mut TermWriter<'a>, count: usize| {
            (0..count).try_for_each(|_| self.term(parts, writer, depth + 1))
        };
        let written = match parts.take().ok()? {
            Part::Integer(value) => writer.integer(value),
            Part::Big(is_negative, magnitude) => writer.big_integer(is_negative, magnitude),
            Part::Float(value) => writer.float(value),
            Part::Atom(text, is_latin1) => writer.term(self.atom(text, is_latin1)?),
            Part::Binary(bytes) if self.memory.is_some() && bytes.len() >= MIN_SHARED => {
                writer.term(binary(self.env, bytes, self.memory))
            }
            Part::Binary(bytes) => writer.binary(bytes, None),
            Part::Bytes(bytes) => {
                bytes
                    .iter()
                    .try_for_each(|byte| writer.integer(i64::from(*byte)).ok())?;
                writer.end_list(bytes.len())
            }
            Part::Nil => writer.term(Term::list_new_empty(self.env)),
            Part::List(length) => {
                elements(parts, writer, length)?;
                (parts.take().ok()? == Part::Nil).then_some(())?;
                writer.end_list(length)
            }
            Part::Tuple(arity) => {
                elements(parts, writer, arity)?;
                writer.end_tuple(arity)
            }
            Part::Map(size) => {
                elements(parts, writer, size.checked_mul(2)?)?;
                writer.end_map(size, Keys::Unknown)
            }
            Part::Opaque(bytes) => writer.term(safe_term(self.env, bytes)?),
            Part::Object(number) => {
                let object = ProcessObject::hold(Arc::clone(self.owner), number);
                writer.term(object.encode(self.env))
            }
        };
        written.ok()
    }

    /// Returns an atom, which must exist.
    fn atom(&self, text: &[u8], is_latin1: bool) -> Option<Term<'a>> {
        if text.is_ascii() {
            let found = Atom::existing_from_bytes(self.env, text).ok()?;
            return Some(found.encode(self.env));
        }
        if is_latin1 {
            let text: String = text.iter().map(|byte| char::from(*byte)).collect();
            return existing_atom(self.env, &text);
        }
        existing_atom(self.env, std::str::from_utf8(text).ok()?)
    }
}

/// Decodes one term without containers that the codec knows, such as a pid.
fn safe_term<'a>(env: Env<'a>, bytes: &[u8]) -> Option<Term<'a>> {
    let mut external = Vec::with_capacity(bytes.len() + 1);
    external.push(py_codec::etf::VERSION);
    external.extend_from_slice(bytes);
    let mut term = MaybeUninit::uninit();
    // SAFETY: `env` is a live environment, and `term` is written when the size is not 0.
    let size = unsafe {
        let (data, length) = (external.as_ptr(), external.len());
        enif_binary_to_term(env.as_c_arg(), data, length, term.as_mut_ptr(), SAFE)
    };
    // SAFETY: `enif_binary_to_term` has not returned 0, so `term` is initialised, a term of `env`.
    (size != 0).then(|| unsafe { Term::new(env, term.assume_init()) })
}
