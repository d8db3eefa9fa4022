//! Messages, names and monitors for Python code: `erlang.send`, `self`, `whereis`, `atom`, `monitor`.
//!
//! A message to a local process goes there at once; what has to find another node goes by way of
//! `py_callback`, since only a process may do that.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyTuple};
use rustler::sys::{self, enif_binary_to_term};
use rustler::{Encoder, LocalPid, OwnedEnv, ResourceArc, Term};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use super::outgoing::Outgoing;
use super::{classes, not_running, server_pid};
use crate::atoms;
use crate::callback::{Callback, Handle, Outcome};
use crate::convert::{Answer, to_message, to_object};
use crate::error::Error;
use crate::object::ErlangTerm;
use crate::reply::Outbox;
use crate::station::Station;
use crate::ticket::Ticket;
use crate::waker::Waker;

pub(super) fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("send", wrap_pyfunction!(send, module)?)?;
    module.setattr("self", wrap_pyfunction!(caller, module)?)?;
    module.setattr("whereis", wrap_pyfunction!(whereis, module)?)?;
    module.setattr("atom", wrap_pyfunction!(atom, module)?)?;
    module.setattr("_watch", wrap_pyfunction!(watch, module)?)
}

/// Sends a message to a pid, a registered name, or a (name, node).
///
/// A process that is dead is no error; a local name that no process has raises NotRegistered. When
/// 1,000 messages to another node wait, this waits for room, and raises Overloaded after a second.
#[pyfunction]
#[pyo3(signature = (dest, message, /))]
fn send(py: Python<'_>, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let job = Station::job(py);
    let ticket = job.map_or_else(Ticket::unlimited, |job| Arc::clone(&job.ticket));
    let told = match Destination::find(dest)? {
        Destination::Local(pid) => {
            Outbox::new().tell(&pid, |env| to_message(env, message, &ticket))
        }
        Destination::Far(far) => {
            let server = server_pid().ok_or_else(not_running)?;
            let outgoing = Outgoing::enter(py, &far, &ticket).ok_or_else(|| overloaded(py))?;
            Outbox::new().tell(&server, |env| {
                let message = to_message(env, message, &ticket)?;
                let dest = far.to_term(env);
                Ok(message.map(|message| (atoms::py_send(), dest, message, outgoing).encode(env)))
            })
        }
        Destination::Nobody => return Err(nobody(py, dest)),
    };
    told.map(|_| ()).map_err(Error::into_exception)
}

/// The process that the running code works for.
#[pyfunction]
#[pyo3(name = "self")]
fn caller(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let Some(job) = Station::job(py) else {
        let text = "no call of an Erlang process runs in this thread";
        return Err(PyRuntimeError::new_err(text));
    };
    pid_object(py, job.caller)
}

/// The local process with this name, or None.
#[pyfunction]
#[pyo3(signature = (name, /))]
fn whereis<'py>(name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = match atom_of(name)? {
        Some(name) => local(&name),
        None => None,
    };
    found.map(|pid| pid_object(name.py(), pid)).transpose()
}

/// The atom of this name, to be sent or returned as an atom: text becomes a binary. Atoms are never
/// freed, so only one that exists already is found, unless `create` is true.
#[pyfunction]
#[pyo3(signature = (name, /, *, create = false))]
fn atom<'py>(py: Python<'py>, name: &str, create: bool) -> PyResult<Bound<'py, PyAny>> {
    match make_atom(name, create) {
        Some(found) => Ok(Bound::new(py, found)?.into_any()),
        None if name.chars().count() > MAX_ATOM => {
            Err(PyValueError::new_err("an atom has at most 255 characters"))
        }
        None => Err(PyValueError::new_err(format!("there is no atom '{name}'"))),
    }
}

/// Characters of an atom.
const MAX_ATOM: usize = 255;

/// By way of the external term format, which knows atoms that are no Latin-1, and, asked to be safe,
/// makes none: `131, 118, Length:16, Utf8`.
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
        // SAFETY: initialised by the successful call above, in `env`.
        (size != 0).then(|| unsafe { Term::new(env, term.assume_init()) })
    })
}

/// `ERL_NIF_BIN2TERM_SAFE`: refuses what would make an atom.
const SAFE: u32 = 0x2000_0000;

/// Where a message goes.
enum Destination {
    Local(LocalPid),
    /// To another node, or something that only a process can find.
    Far(ErlangTerm),
    Nobody,
}

impl Destination {
    fn find(dest: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(term) = dest.cast::<ErlangTerm>() {
            let term = term.get();
            return Ok(if let Some(pid) = term.local_pid() {
                Self::Local(pid)
            } else if term.is_atom() {
                local(term).map_or(Self::Nobody, Self::Local)
            } else {
                Self::Far(term.copy())
            });
        }
        if dest.is_instance_of::<PyString>() {
            let name = atom_of(dest)?;
            let pid = name.as_ref().and_then(local);
            return Ok(pid.map_or(Self::Nobody, Self::Local));
        }
        let Ok((name, node)) = dest.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
            let text = "a process is a pid, a registered name, or a tuple of name and node";
            return Err(PyTypeError::new_err(text));
        };
        let (Some(name), Some(node)) = (atom_of(&name)?, atom_of(&node)?) else {
            return Ok(Self::Nobody);
        };
        let pair = ErlangTerm::make(|env| Some((name.to_term(env), node.to_term(env)).encode(env)));
        Ok(pair.map_or(Self::Nobody, Self::Far))
    }
}

/// The atom of a name, if it exists: `str`, or an atom itself.
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

/// The process that is registered by this atom.
fn local(name: &ErlangTerm) -> Option<LocalPid> {
    let mut pid = MaybeUninit::uninit();
    let found = OwnedEnv::new().run(|env| {
        let name = name.to_term(env).as_c_arg();
        // SAFETY: not a scheduler thread, so no environment of a caller; `pid` is written when the
        // result is not 0.
        unsafe { sys::enif_whereis_pid(ptr::null_mut(), name, pid.as_mut_ptr()) }
    });
    // SAFETY: initialised by the successful call above.
    (found != 0).then(|| LocalPid::from_c_arg(unsafe { pid.assume_init() }))
}

fn pid_object(py: Python<'_>, pid: LocalPid) -> PyResult<Bound<'_, PyAny>> {
    let missing = || PyRuntimeError::new_err("no pid");
    let term = ErlangTerm::make(|env| Some(pid.encode(env))).ok_or_else(missing)?;
    Ok(Bound::new(py, term)?.into_any())
}

fn nobody(py: Python<'_>, dest: &Bound<'_, PyAny>) -> PyErr {
    let made = || {
        let text = format!("no process is registered as {}", dest.repr()?);
        classes(py)?.not_registered.bind(py).call1((text,))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

fn overloaded(py: Python<'_>) -> PyErr {
    let text = "too many messages to this node wait already";
    let made = || classes(py)?.overloaded.bind(py).call1((text,));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// A process is watched by `py_callback`, until this object is gone.
#[pyclass(frozen, module = "erlang")]
struct Watch(Arc<Callback>);

#[pyfunction]
fn watch(dest: &Bound<'_, PyAny>) -> PyResult<Watch> {
    let py = dest.py();
    let target = match Destination::find(dest)? {
        Destination::Local(pid) => pid_object(py, pid)?,
        Destination::Far(far) => Bound::new(py, far)?.into_any(),
        Destination::Nobody => return Err(nobody(py, dest)),
    };
    let server = server_pid().ok_or_else(not_running)?;
    let ticket = Ticket::unlimited();
    let callback = Callback::new(None, Arc::clone(ticket.pending()), Waker::Nobody);
    let told = Outbox::new().tell(&server, |env| {
        let handle = ResourceArc::new(Handle(Arc::clone(&callback)));
        let target = to_message(env, &target, &ticket)?.term;
        let message = (atoms::py_monitor(), callback.id, handle, target).encode(env);
        Ok(Answer::compact(message))
    });
    match told {
        Ok(_) => Ok(Watch(callback)),
        Err(error) => Err(error.into_exception()),
    }
}

#[pymethods]
impl Watch {
    /// What `py_callback` knows it by.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id
    }

    /// `None` while the process lives, then a tuple of its exit reason.
    fn reason<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let ticket = Ticket::unlimited();
        let copy = self.0.peek(|outcome| match outcome {
            Outcome::Said(env, term) => ErlangTerm::make(|own| {
                env.run(|env| {
                    // `{ok, Reason}`.
                    let (_ok, reason) = term.load(env).decode::<(Term<'_>, Term<'_>)>().ok()?;
                    Some(reason.in_env(own))
                })
            }),
            Outcome::Lost => None,
        });
        let form = |copy: ErlangTerm| copy.with(|reason| to_object(py, reason, &ticket).ok());
        let found = copy.map(|copy| copy.and_then(form));
        match found {
            None => Ok(None),
            Some(Some(reason)) => Ok(Some(PyTuple::new(py, [reason])?)),
            // Who watched is gone.
            Some(None) => Ok(Some(PyTuple::new(py, ["noconnection"])?)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(server) = server_pid() {
            let note = (atoms::py_callback(), self.0.id, atoms::ended());
            Outbox::new().note(&server, note);
        }
    }
}
