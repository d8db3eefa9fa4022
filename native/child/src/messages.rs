//! Messages, names of processes, atoms and monitors, as code in a child uses them: questions to the VM. Called
//! attached, on the thread that runs the code; each question blocks detached until the VM has answered.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::thread;
use std::time::{Duration, Instant};

use py_codec::etf::{Encoder, opaque_term};
use py_codec::frame::{FrameWriter, Message};
use py_codec::protocol::{from_child, outcome, question};
use py_codec::{Term, write};
use py_engine::erlang::{not_registered, overloaded};
use py_engine::host::Host;
use py_engine::lock::lock;

use crate::child::Child;
use crate::host::ChildHost;
use crate::questions::{MAX_NAME, ask, into_exception, lost};
use crate::values::{exception, finish, value};

/// The tag of a pid in the external term format, and the size of the numbers after its node's name.
const NEW_PID: u8 = 88;
const PID_NUMBERS: usize = 12;

/// How long a message to another node waits for room, as in the VM, and the time between two attempts.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

impl ChildHost {
    /// Returns the destination of a message: a term, or for a name or a pair its form as a value.
    fn destination(&self, dest: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        let is_name = |name: &Bound<'_, PyAny>| {
            name.is_instance_of::<Term>() || name.is_instance_of::<PyString>()
        };
        if let Ok((name, node)) = dest.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
            if !is_name(&name) || !is_name(&node) {
                return Err(PyTypeError::new_err("a name is a str or an atom"));
            }
        } else if !is_name(dest) {
            let text = "a process is a pid, a registered name, or a tuple of name and node";
            return Err(PyTypeError::new_err(text));
        }
        let mut encoder = Encoder::new(usize::MAX);
        write(dest, &mut encoder, &|| self.must_stop()).map_err(exception)?;
        let bytes = encoder.into_bytes();
        if bytes.len() > MAX_NAME {
            return Err(unknown(dest));
        }
        Ok(bytes)
    }

    /// Sends a message. Waits for a while if the VM has no room for one to another node.
    pub(crate) fn send_message(
        &self,
        dest: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = dest.py();
        let destination = self.destination(dest)?;
        let write = |id: u64| -> PyResult<Message> {
            let mut frame = FrameWriter::new(from_child::SEND);
            frame.word(id).byte(self.is_main()).bytes(&destination);
            self.add(&mut frame, message)?;
            Ok(finish(py, &mut frame))
        };
        // A message to a process of this VM needs no outcome. One to another node may find no room.
        let own = self.job.as_ref().and_then(|job| node_of(&job.caller));
        if own.is_some() && node_of(&destination) == own {
            return self.child.connection.send(&write(0)?).map_err(|_| lost());
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match ask(py, self.child, self, write)?.outcome {
                outcome::VALUE => return Ok(()),
                outcome::OVERLOADED if Instant::now() < end && !self.must_stop() => {
                    py.detach(|| thread::sleep(PAUSE));
                }
                outcome::OVERLOADED => {
                    return Err(overloaded(
                        py,
                        "too many messages to this node wait already",
                    ));
                }
                _ => return Err(unknown(dest)),
            }
        }
    }

    /// Returns the process of a registered name.
    pub(crate) fn registered_process<'py>(
        &self,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !name.is_instance_of::<Term>() && !name.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("a name is a str or an atom"));
        }
        let end = self.ask(question::WHEREIS, &self.destination(name)?)?;
        if end.outcome != outcome::VALUE {
            return Ok(None);
        }
        let pid = value(name.py(), self.child, end.term()?, &|| false);
        pid.map(Some).map_err(into_exception)
    }

    /// Returns an atom, which must exist.
    pub(crate) fn existing_atom<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        create: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if name.chars().count() > 255 {
            return Err(PyValueError::new_err("an atom has at most 255 characters"));
        }
        let end = self.ask(question::ATOM, name.as_bytes())?;
        if end.outcome != outcome::VALUE {
            let why = if create {
                ", and a child process makes none"
            } else {
                ""
            };
            return Err(PyValueError::new_err(format!(
                "there is no atom '{name}'{why}"
            )));
        }
        let term = opaque_term(end.term()?.get(1..).unwrap_or_default());
        Ok(Bound::new(py, term)?.into_any())
    }

    /// Returns a monitor of a process.
    pub(crate) fn monitor<'py>(&self, dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = dest.py();
        let end = self.ask(question::WATCH, &self.destination(dest)?)?;
        if end.outcome != outcome::VALUE {
            return Err(unknown(dest));
        }
        let id = value(py, self.child, end.term()?, &|| false).map_err(into_exception)?;
        let id = id.extract()?;
        // The end of the process may have come before this answer was read.
        lock(&self.child.watches).entry(id).or_default();
        let child = self.child;
        Ok(Bound::new(py, Watch { child, id })?.into_any())
    }
}

/// Returns the name of the node of a pid, in the external term format; `None` for another term.
fn node_of(term: &[u8]) -> Option<&[u8]> {
    match term {
        [_, NEW_PID, rest @ ..] => rest.get(..rest.len().checked_sub(PID_NUMBERS)?),
        _ => None,
    }
}

fn unknown(dest: &Bound<'_, PyAny>) -> PyErr {
    match dest.repr() {
        Ok(repr) => not_registered(dest.py(), &format!("no process is registered as {repr}")),
        Err(error) => error,
    }
}

/// A monitor of a process, which the VM keeps until this object is dropped.
#[pyclass(frozen, module = "erlang")]
struct Watch {
    child: &'static Child,
    id: u64,
}

#[pymethods]
impl Watch {
    /// The number by which the VM knows the monitor.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// Returns `None` while the process lives, then a tuple of its exit reason.
    fn reason<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let term = lock(&self.child.watches).get(&self.id).cloned().flatten();
        let Some(term) = term else { return Ok(None) };
        let reason = value(py, self.child, &term, &|| false);
        match reason {
            Ok(reason) => Ok(Some(PyTuple::new(py, [reason])?)),
            Err(_) => Ok(Some(PyTuple::new(py, ["noconnection"])?)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.child.watches).remove(&self.id);
        let mut frame = FrameWriter::new(from_child::UNWATCH);
        frame.word(self.id);
        // Fails if the VM has gone: the process is about to end.
        let _: Result<(), _> = self.child.connection.send(&frame.finish());
    }
}
