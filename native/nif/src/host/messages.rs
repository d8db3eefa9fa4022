//! Messages and names for Python code: `erlang.send`, `self`, `whereis`, `atom`. Called attached, on any thread that runs Python code, never on a scheduler thread.
//! Only `send` to another node may block, detached, for room.
//!
//! A message to a local process is sent at once; one to another node goes through `py_callback`,
//! since only a process can send it.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustler::sys::{self, enif_binary_to_term};
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};
use std::mem::MaybeUninit;
use std::ptr;

use py_engine::erlang::{not_registered, overloaded};
use py_engine::host::Host;

use super::not_running;
use super::outgoing::Outgoing;
use crate::atoms;
use crate::convert::to_message;
use crate::error::Error;
use crate::job::ReplyBuffer;
use crate::term::{ErlangTerm, OfBeam};
use crate::vm::VM;

/// Sends a message, for `erlang.send`.
pub(super) fn send(
    host: &dyn Host,
    dest: &Bound<'_, PyAny>,
    message: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = dest.py();
    let sent = match Destination::find(dest)? {
        Destination::Local(pid) => {
            ReplyBuffer::new().send_to(&pid, |env| to_message(env, message, host))
        }
        Destination::Far(far) => {
            let server = VM.callbacks.pid().ok_or_else(not_running)?;
            let full = || overloaded(py, "too many messages to this node wait already");
            let outgoing = Outgoing::enter(py, &far, host).ok_or_else(full)?;
            ReplyBuffer::new().send_to(&server, |env| {
                let message = to_message(env, message, host)?;
                let dest = far.to_term(env);
                Ok(message.map(|message| (atoms::py_send(), dest, message, outgoing).encode(env)))
            })
        }
        Destination::Unknown => return Err(unknown(dest)),
    };
    sent.map(|_| ()).map_err(Error::into_exception)
}

/// Returns the pid that is registered by a name, for `erlang.whereis`.
pub(super) fn whereis<'py>(name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = match atom_of(name)? {
        Some(name) => local(&name),
        None => None,
    };
    found.map(|pid| pid_object(name.py(), pid)).transpose()
}

/// Returns an atom, for `erlang.atom`.
pub(super) fn atom<'py>(py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>> {
    match make_atom(name, create) {
        Some(found) => Ok(Bound::new(py, found)?.into_any()),
        None if name.chars().count() > MAX_ATOM => {
            Err(PyValueError::new_err("an atom has at most 255 characters"))
        }
        None => Err(PyValueError::new_err(format!("there is no atom '{name}'"))),
    }
}

/// The number of characters that an atom may have.
const MAX_ATOM: usize = 255;

/// Returns an atom; `None` if its name is too long, or if it does not exist and `create` is
/// `false`. Decodes the external term format `131, 118, Length:16, Utf8`, which knows atoms beyond
/// Latin-1, and makes no new atom if it is asked to be safe.
fn make_atom(name: &str, create: bool) -> Option<ErlangTerm> {
    if name.chars().count() > MAX_ATOM {
        return None;
    }
    let length = u16::try_from(name.len()).ok()?.to_be_bytes();
    let mut external = vec![131, 118, length[0], length[1]];
    external.extend_from_slice(name.as_bytes());
    let options = if create { 0 } else { SAFE };
    ErlangTerm::make(|env| {
        let mut term = MaybeUninit::uninit();
        // SAFETY: `env` is a live environment, and `term` is written when the size is not 0.
        let size = unsafe {
            enif_binary_to_term(
                env.as_c_arg(),
                external.as_ptr(),
                external.len(),
                term.as_mut_ptr(),
                options,
            )
        };
        // SAFETY: `enif_binary_to_term` has not returned 0, so `term` is initialised, a term of
        // `env`.
        (size != 0).then(|| unsafe { Term::new(env, term.assume_init()) })
    })
}

/// `ERL_NIF_BIN2TERM_SAFE`: refuses what would make an atom.
const SAFE: u32 = 0x2000_0000;

/// The destination of a message.
pub(crate) enum Destination {
    Local(LocalPid),
    /// A process of another node, or a name that only a process can resolve.
    Far(ErlangTerm),
    Unknown,
}

impl Destination {
    /// Finds the destination that a child process names: a pid, a name, or a pair of name and node; names
    /// are atoms or binaries.
    pub(crate) fn of_term(dest: Term<'_>) -> Self {
        if let Ok(pid) = dest.decode::<LocalPid>() {
            return Self::Local(pid);
        }
        if let Ok((name, node)) = dest.decode::<(Term<'_>, Term<'_>)>() {
            let pair = ErlangTerm::make(|env| {
                let pair = (name_atom(env, name)?, name_atom(env, node)?);
                Some(pair.encode(env))
            });
            return pair.map_or(Self::Unknown, Self::Far);
        }
        // A process of another node, or what only a process can send to: an alias, a port.
        if !dest.is_atom() && !dest.is_binary() {
            let far = ErlangTerm::make(|env| Some(dest.in_env(env)));
            return far.map_or(Self::Unknown, Self::Far);
        }
        let name = ErlangTerm::make(|env| name_atom(env, dest));
        let pid = name.as_ref().and_then(local);
        pid.map_or(Self::Unknown, Self::Local)
    }

    pub(super) fn find(dest: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(term) = dest.cast::<ErlangTerm>() {
            let term = term.get();
            return Ok(if let Some(pid) = term.local_pid() {
                Self::Local(pid)
            } else if term.is_atom() {
                local(term).map_or(Self::Unknown, Self::Local)
            } else {
                Self::Far(term.copy())
            });
        }
        if dest.is_instance_of::<PyString>() {
            let name = atom_of(dest)?;
            let pid = name.as_ref().and_then(local);
            return Ok(pid.map_or(Self::Unknown, Self::Local));
        }
        let Ok((name, node)) = dest.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
            let text = "a process is a pid, a registered name, or a tuple of name and node";
            return Err(PyTypeError::new_err(text));
        };
        let (Some(name), Some(node)) = (atom_of(&name)?, atom_of(&node)?) else {
            return Ok(Self::Unknown);
        };
        let pair = ErlangTerm::make(|env| Some((name.to_term(env), node.to_term(env)).encode(env)));
        Ok(pair.map_or(Self::Unknown, Self::Far))
    }
}

/// Returns the atom of a name, which is a `str` or an atom itself; `None` if there is no such atom.
fn atom_of(name: &Bound<'_, PyAny>) -> PyResult<Option<ErlangTerm>> {
    if let Ok(term) = name.cast::<ErlangTerm>()
        && term.get().is_atom()
    {
        return Ok(Some(term.get().copy()));
    }
    match name.extract::<String>() {
        Ok(name) => Ok(make_atom(&name, false)),
        Err(_) => Err(PyTypeError::new_err("a name is a str or an atom")),
    }
}

/// Returns the atom that a term names; `None` if there is no such atom.
fn name_atom<'a>(env: Env<'a>, name: Term<'_>) -> Option<Term<'a>> {
    if name.is_atom() {
        return Some(name.in_env(env));
    }
    let text = name.decode::<&str>().ok()?;
    existing_atom(env, text)
}

/// Returns an atom in `env`; `None` if it does not exist.
pub(crate) fn existing_atom<'a>(env: Env<'a>, name: &str) -> Option<Term<'a>> {
    Some(make_atom(name, false)?.to_term(env))
}

/// Returns the local process that is registered by an atom.
fn local(name: &ErlangTerm) -> Option<LocalPid> {
    let mut pid = MaybeUninit::uninit();
    let found = OwnedEnv::new().run(|env| {
        let name = name.to_term(env).as_c_arg();
        // SAFETY: the thread is no scheduler, so there is no caller environment to pass; `pid` can
        // be written.
        unsafe { sys::enif_whereis_pid(ptr::null_mut(), name, pid.as_mut_ptr()) }
    });
    // SAFETY: `enif_whereis_pid` has not returned 0 where this runs, so `pid` is initialised.
    (found != 0).then(|| LocalPid::from_c_arg(unsafe { pid.assume_init() }))
}

pub(super) fn pid_object(py: Python<'_>, pid: LocalPid) -> PyResult<Bound<'_, PyAny>> {
    let missing = || PyRuntimeError::new_err("no pid");
    let term = ErlangTerm::make(|env| Some(pid.encode(env))).ok_or_else(missing)?;
    Ok(Bound::new(py, term)?.into_any())
}

pub(super) fn unknown(dest: &Bound<'_, PyAny>) -> PyErr {
    match dest.repr() {
        Ok(repr) => not_registered(dest.py(), &format!("no process is registered as {repr}")),
        Err(error) => error,
    }
}
