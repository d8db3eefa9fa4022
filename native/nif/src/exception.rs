//! A captured Python exception as a term of the BEAM. Called by the encoder of [`crate::error::Error`] on
//! the thread that sends the reply; needs no GIL, and blocks on nothing.

use rustler::{Atom, Encoder, Env, Term};

use py_engine::exception::{Exception, KINDS, write};

use crate::atoms;
use crate::term::TermWriter;

/// Returns `{Type, Info}`.
pub(crate) fn encode<'a>(env: Env<'a>, exception: &Exception) -> Term<'a> {
    let mut writer = TermWriter::new(env);
    match write(exception, &mut writer) {
        Ok(()) => writer.into_term(),
        // Unreachable: an exception has small parts, and different keys.
        Err(_) => atoms::error().encode(env),
    }
}

/// Makes the atoms of all types, a fixed set: the errors of child processes are decoded without making
/// any. Called when a pool of child processes is opened.
pub(crate) fn make_kinds(env: Env<'_>) {
    for kind in KINDS {
        // Fails for a name that is too long, which no class of the set has.
        let _: Result<Atom, _> = Atom::from_str(env, kind);
    }
}
