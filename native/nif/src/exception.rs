//! A captured Python exception as a term: `{Type, #{class, message, traceback, cause, ...}}`.
//!
//! Called by the encoder of [`crate::error::Error`] on the thread that sends the reply; needs no
//! GIL, and blocks on nothing.

use rustler::{Atom, Encoder, Env, Term};

use py_engine::exception::{Exception, Frame, KINDS, Syntax};

use crate::atoms;
use crate::term::OfBeam;
use crate::term::small_map;

/// Returns `{Type, Info}`. The atoms of types are a fixed set, see `exception_class.rs` of the
/// engine.
pub(crate) fn encode<'a>(env: Env<'a>, exception: &Exception) -> Term<'a> {
    // `from_str` fails for a name that is too long for an atom, which no class of the set has.
    let kind = Atom::from_str(env, exception.kind).unwrap_or_else(|_| atoms::error());
    (kind, info(env, exception)).encode(env)
}

/// Makes the atoms of all types, a fixed set: the errors of child processes are decoded without making
/// any. Called when a pool of child processes is opened.
pub(crate) fn make_kinds(env: Env<'_>) {
    for kind in KINDS {
        // Fails for a name that is too long, which no class of the set has.
        let _: Result<Atom, _> = Atom::from_str(env, kind);
    }
}

fn info<'a>(env: Env<'a>, exception: &Exception) -> Term<'a> {
    let frames: Vec<_> = exception.frames.iter().map(|f| frame(env, f)).collect();
    let mut pairs = vec![
        (atoms::class(), exception.class.encode(env)),
        (atoms::message(), exception.message.encode(env)),
        (atoms::traceback(), frames.encode(env)),
    ];
    match &exception.cause {
        None => pairs.push((atoms::cause(), atoms::none().encode(env))),
        Some(cause) => {
            let chain = if cause.explicit {
                atoms::cause()
            } else {
                atoms::context()
            };
            pairs.push((atoms::cause(), info(env, &cause.exception)));
            pairs.push((atoms::chain(), chain.encode(env)));
        }
    }
    if let Some(members) = &exception.exceptions {
        let members: Vec<_> = members.iter().map(|member| info(env, member)).collect();
        pairs.push((atoms::exceptions(), members.encode(env)));
    }
    if !exception.notes.is_empty() {
        pairs.push((atoms::notes(), exception.notes.encode(env)));
    }
    if let Some(term) = &exception.origin {
        pairs.push((atoms::erlang(), term.get().to_term(env)));
    }
    if let Some(s) = &exception.syntax {
        pairs.push((atoms::syntax(), syntax(env, s)));
    }
    small_map(env, &pairs)
}

fn frame<'a>(env: Env<'a>, frame: &Frame) -> Term<'a> {
    let mut pairs = vec![
        (atoms::file(), frame.file.encode(env)),
        (atoms::line(), frame.line.encode(env)),
        (atoms::function(), frame.function.encode(env)),
    ];
    if let Some(source) = &frame.source {
        pairs.push((atoms::source(), source.encode(env)));
    }
    small_map(env, &pairs)
}

fn syntax<'a>(env: Env<'a>, syntax: &Syntax) -> Term<'a> {
    small_map(
        env,
        &[
            (atoms::message(), syntax.message.encode(env)),
            (atoms::file(), syntax.file.encode(env)),
            (atoms::line(), syntax.line.encode(env)),
            (atoms::offset(), syntax.offset.encode(env)),
            (atoms::end_offset(), syntax.end_offset.encode(env)),
            (atoms::text(), syntax.text.encode(env)),
        ],
    )
}
