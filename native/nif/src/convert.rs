//! The values of jobs: terms to objects and objects to terms. `host` and `job/callback.rs` call it
//! for the code of a host, attached, on workers and guests. A conversion blocks on nothing,
//! and returns `Interrupted` if the job must stop.

use py_codec::etf::Encoder as External;
use py_codec::{Form, Stop, read, read_arguments, read_kwargs, read_name, write};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustler::{Atom, Encoder, Env, NewBinary, Term};

use py_engine::host::Host;
use py_engine::namespace::conversion::Conversion;

use crate::atoms;
use crate::error::{Error, Why};
use crate::term::{TermReader, TermWriter, prefers_external};

/// The size of a binary up to which it is encoded. A bigger one would be copied twice that way, so
/// the encoder refuses it, and the whole value is built as terms.
const MAX_INLINE: usize = 1 << 16;

/// A converted value, in the environment of a reply.
pub(crate) struct Answer<'a> {
    pub(crate) term: Term<'a>,
    /// The term is a binary in the external term format, which the caller decodes.
    pub(crate) is_external: bool,
    /// The environment holds much that is not part of the term: a map grows by a copied path per
    /// key, and no environment is ever garbage collected.
    pub(crate) has_garbage: bool,
    /// The term is a placeholder: the task of the job replies when its coroutine has ended.
    pub(crate) is_deferred: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn compact(term: Term<'a>) -> Self {
        Self {
            term,
            is_external: false,
            has_garbage: false,
            is_deferred: false,
        }
    }

    pub(crate) fn deferred(env: Env<'a>) -> Self {
        Self {
            is_deferred: true,
            ..Self::compact(atoms::ok().encode(env))
        }
    }

    /// Returns the atom by which the receiver knows the form of the term: `external` or `ok`.
    pub(crate) fn tag(&self) -> Atom {
        if self.is_external {
            atoms::external()
        } else {
            atoms::ok()
        }
    }

    pub(crate) fn map(self, f: impl FnOnce(Term<'a>) -> Term<'a>) -> Self {
        let term = f(self.term);
        Self { term, ..self }
    }
}

/// Returns the Erlang form of an object, for the code of `host`. Big containers are encoded, for
/// the caller to decode: the BEAM decodes into the heap of the caller at once, in pieces that do
/// not hold up a scheduler, and may build maps of any size there; and the GIL is held for the
/// encoding only.
pub(crate) fn to_term<'a>(
    env: Env<'a>,
    object: &Bound<'_, PyAny>,
    host: &dyn Host,
    form: Form,
) -> Result<Answer<'a>, Error> {
    let rules = Conversion::with_form(host, form);
    if form.is_object || !prefers_external(object) {
        return to_terms(env, object, &rules);
    }
    let mut external = External::new(MAX_INLINE);
    match write(object, &mut external, &rules) {
        Ok(()) => {
            let bytes = external.into_bytes();
            let mut binary = NewBinary::new(env, bytes.len());
            binary.as_mut_slice().copy_from_slice(&bytes);
            let is_external = true;
            Ok(Answer {
                is_external,
                ..Answer::compact(binary.into())
            })
        }
        Err(Stop::Refused) => to_terms(env, object, &rules),
        Err(Stop::Failed(error)) => Err((*error).into()),
    }
}

/// Returns the Erlang form of an object as terms, for a receiver that decodes nothing.
pub(crate) fn to_message<'a>(
    env: Env<'a>,
    object: &Bound<'_, PyAny>,
    host: &dyn Host,
) -> Result<Answer<'a>, Error> {
    to_terms(env, object, &Conversion::new(host))
}

fn to_terms<'a>(
    env: Env<'a>,
    object: &Bound<'_, PyAny>,
    rules: &Conversion<'_>,
) -> Result<Answer<'a>, Error> {
    let mut writer = TermWriter::new(env);
    match write(object, &mut writer, rules) {
        Ok(()) => {
            let has_garbage = writer.has_garbage();
            let term = writer.into_term();
            Ok(Answer {
                has_garbage,
                ..Answer::compact(term)
            })
        }
        Err(Stop::Failed(error)) => Err((*error).into()),
        Err(Stop::Refused) => Err(Error::unconvertible(Why::TooLarge, "term")),
    }
}

/// Returns the Python form of one term, for the code of `host`.
pub(crate) fn to_object<'py>(
    py: Python<'py>,
    term: Term<'_>,
    host: &dyn Host,
) -> Result<Bound<'py, PyAny>, Error> {
    Ok(read(
        py,
        &mut TermReader::new(term),
        &Conversion::new(host),
    )?)
}

/// Returns the Python forms of a list of terms, for the code of `host`.
pub(crate) fn to_arguments<'py>(
    py: Python<'py>,
    list: Term<'_>,
    host: &dyn Host,
) -> Result<Vec<Bound<'py, PyAny>>, Error> {
    let rules = Conversion::new(host);
    Ok(read_arguments(py, &mut TermReader::new(list), &rules)?)
}

/// Returns a map with names as keys as a dict: keyword arguments or locals.
pub(crate) fn to_kwargs<'py>(
    py: Python<'py>,
    map: Term<'_>,
    host: &dyn Host,
) -> Result<Bound<'py, PyDict>, Error> {
    let rules = Conversion::new(host);
    Ok(read_kwargs(py, &mut TermReader::new(map), &rules)?)
}

/// Returns a name: the text of an atom or of a binary.
pub(crate) fn to_name<'py>(py: Python<'py>, term: Term<'_>) -> Result<Bound<'py, PyString>, Error> {
    Ok(read_name(py, &mut TermReader::new(term))?)
}
