//! The NIFs by which the application sets how values are converted, and takes what code has written. They
//! block on nothing.

use py_codec::NoneAtom;
use py_engine::erlang::{logging, output};
use py_engine::namespace::conversion;
use rustler::{Atom, Encoder, Env, Error as NifError, NifResult, Term};

use std::sync::atomic::Ordering;

use crate::atoms;
use crate::output_queue::{Entry, Kind, LogPlace};
use crate::vm::VM;

/// Sets how values are converted: the atom that `None` becomes. Called at each start of the application.
#[rustler::nif]
fn configure(none: &str) -> NifResult<Atom> {
    conversion::set_none(NoneAtom::from_name(none).ok_or(NifError::BadArg)?);
    Ok(atoms::ok())
}

/// Makes the calling process the one that takes what Python code writes, and sets whether text goes to the
/// descriptors of the process instead. Returns whether there is something to take.
#[rustler::nif]
fn serve_output(env: Env<'_>, inherits: bool) -> bool {
    output::set_inherits(inherits);
    VM.output.serve(env.pid())
}

/// Takes what Python code has written: `{Caller | none, stdout | stderr | Log, Text, Cost}`, oldest first.
#[rustler::nif]
fn take_output(env: Env<'_>) -> Vec<Term<'_>> {
    let entries = VM.output.take();
    let form = |entry: Entry| {
        let caller = match entry.caller {
            Some(caller) => caller.encode(env),
            None => atoms::none().encode(env),
        };
        let kind = match entry.kind {
            Kind::Stdout => atoms::stdout().encode(env),
            Kind::Stderr => atoms::stderr().encode(env),
            Kind::Log(place) => log_term(env, *place),
        };
        (caller, kind, entry.text, entry.cost).encode(env)
    };
    entries.into_iter().map(form).collect()
}

/// Returns `{log, Level, Logger, File, Line, Function, Lease | none}`.
fn log_term(env: Env<'_>, place: LogPlace) -> Term<'_> {
    let lease = match place.lease {
        Some(lease) => lease.encode(env),
        None => atoms::none().encode(env),
    };
    let LogPlace {
        level,
        logger,
        file,
        line,
        function,
        ..
    } = place;
    let tag = atoms::log();
    (tag, level, logger, file, line, function, lease).encode(env)
}

/// Sets how Python's `logging` is configured, from the next job of each Python on; see
/// `py_engine::erlang::logging`.
#[rustler::nif]
fn set_logging(configuration: u32) -> Atom {
    let last = VM.logging.load(Ordering::Relaxed);
    let configuration = logging::numbered(configuration, last);
    logging::set_configuration(configuration);
    VM.logging.store(configuration, Ordering::Relaxed);
    atoms::ok()
}

/// Counts entries for a process, or for none, as written. Returns whether there is something to take.
#[rustler::nif]
fn output_written(caller: Term<'_>, cost: usize) -> bool {
    VM.output.written(caller.decode().ok(), cost)
}

/// Begins or ends a preload: the encoders and decoders that its code registers are those of all leases.
#[rustler::nif]
fn set_preload(is_preload: bool) -> Atom {
    conversion::set_preload(is_preload);
    atoms::ok()
}
