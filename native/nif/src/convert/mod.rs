//! Terms to objects and objects to terms, one file per direction. Runs on workers, attached.

mod describe;
mod external;
mod integer;
mod judge;
mod names;
mod raw;
mod terms;
mod text;
mod to_python;
mod to_term;
mod view;

pub(crate) use to_python::{to_arguments, to_kwargs, to_name, to_object};
pub(crate) use to_term::{to_message, to_term};

use rustler::{Atom, Encoder, Env, Term};

use crate::atoms;
use crate::error::Error;
use py_engine::host::Host;

/// How deep lists, tuples and maps may nest, in both directions. It bounds the recursion of the
/// conversion, and is what Python's own recursion limit allows such a structure to be used for.
pub(crate) const MAX_DEPTH: usize = 1_000;

/// Terms in one reply. Shared sub-objects are expanded, as in any Erlang message, so a few lines
/// of Python can ask for more memory than there is: 2^25 list elements are half a GiB.
pub(crate) const MAX_TERMS: usize = 1 << 25;

/// Bytes of a list element, by which a big integer counts as terms.
pub(crate) const LIST_CELL: usize = 16;

/// Bytes of binaries in one reply, for the same reason: 2 GiB. The BEAM ends when it cannot
/// allocate, and so does everything in it.
pub(crate) const MAX_BYTES: usize = 1 << 31;

/// Terms between two looks at the ticket: no Python code runs meanwhile that could be interrupted.
pub(crate) const CHECK_INTERVAL: usize = 1 << 14;

/// `enif_make_map_from_arrays` with 129 keys or more crashes the VM when called off a scheduler
/// thread (OTP 25, in `erts_qsort`). Bigger maps are grown by `enif_make_map_put`, which is safe.
pub(crate) const MAX_MAP_FROM_ARRAYS: usize = 128;

/// Bigger binaries are shared with Python, not copied.
pub(crate) const MIN_SHARED: usize = 1 << 16;

/// A converted value, in the environment of a reply.
pub(crate) struct Answer<'a> {
    pub(crate) term: Term<'a>,
    /// The term is a binary, which the caller decodes.
    pub(crate) is_external: bool,
    /// The environment holds much that is not part of the term: a map grows by a copied path per
    /// key, and no environment is ever garbage collected.
    pub(crate) scattered: bool,
    /// There is none yet: it comes when a coroutine has ended.
    pub(crate) is_deferred: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn compact(term: Term<'a>) -> Self {
        Self {
            term,
            is_external: false,
            scattered: false,
            is_deferred: false,
        }
    }

    pub(crate) fn deferred(env: Env<'a>) -> Self {
        Self {
            is_deferred: true,
            ..Self::compact(atoms::ok().encode(env))
        }
    }

    /// What tells its receiver the form of it.
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

/// Nobody may be waiting any more for what takes so long.
fn check_wanted(host: &dyn Host) -> Result<(), Error> {
    if host.must_stop() {
        return Err(Error::Interrupted);
    }
    Ok(())
}

/// A small map with distinct atoms as keys.
pub(crate) fn make_map<'a>(env: Env<'a>, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    let put = |map: Term<'a>, (key, value): &(Atom, Term<'a>)| {
        // Fails on a non-map only.
        map.map_put(key.encode(env), *value).unwrap_or(map)
    };
    pairs.iter().fold(Term::map_new(env), put)
}
