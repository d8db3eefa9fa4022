//! Calls of Erlang, and questions that the VM answers at once, as the frames of their ends see them.
//!
//! Sent on the thread that runs the code, attached. An end comes to the thread that reads the socket,
//! which passes it to the [`Callback`].

use py_codec::etf::opaque_term;
use py_codec::frame::{Fields, Message};
use py_codec::protocol::outcome;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::any::Any;
use std::sync::Arc;

use py_engine::erlang::{erlang_error, next_id, no_keywords, not_registered};
use py_engine::host::callback::{Answer, Callback, Event};
use py_engine::host::{Function, Host};
use py_engine::lock::lock;
use py_engine::namespace::conversion::Conversion;

use crate::child::Child;
use crate::payload::{Payload, no_descriptor};
use crate::values::value;

/// The end of a call: one of [`outcome`], and a term.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) outcome: u8,
    /// The payload of the frame, which ends with the term.
    payload: Arc<Payload>,
}

/// Most bytes of a name in a question: no longer one is registered.
pub(crate) const MAX_NAME: usize = 1 << 16;

/// Bytes of the payload before the term: the call, and the outcome.
const BEFORE: usize = 9;

impl End {
    pub(crate) fn new(outcome: u8, payload: Payload) -> Self {
        let payload = Arc::new(payload);
        Self { outcome, payload }
    }

    /// Returns the term, or the exception for one that was lost.
    pub(crate) fn term(&self) -> PyResult<&[u8]> {
        if self.payload.is_lost() {
            return Err(no_descriptor());
        }
        Ok(self.payload.get(BEFORE..).unwrap_or_default())
    }
}

impl Answer for End {
    fn value<'py>(
        &self,
        py: Python<'py>,
        function: Function<'_>,
        host: &dyn Host,
    ) -> PyResult<Bound<'py, PyAny>> {
        let child = Child::find().ok_or_else(lost)?;
        let decode = |term: &[u8]| value(py, child, term, &Conversion::new(host));
        match (self.outcome, function) {
            (outcome::VALUE, _) => decode(self.term()?).map_err(into_exception),
            (outcome::UNKNOWN, Function::Registered(name) | Function::WithKeywords(name)) => {
                let text = format!("no Erlang function is registered as '{name}'");
                Err(not_registered(py, &text))
            }
            (outcome::NO_KEYWORDS, _) => Err(no_keywords(function)),
            (outcome::FAILED, _) => Err(self.error(py, child)?),
            (outcome::FAILED_OPAQUE, _) => Err(self.opaque_error(py, child)?),
            (outcome::UNCONVERTIBLE, _) => {
                let text = String::from_utf8_lossy(self.term()?).into_owned();
                Err(PyValueError::new_err(text))
            }
            (outcome::LOST, _) => {
                let whole = opaque_term(KILLED);
                Err(erlang_error(
                    py,
                    ("exit", "killed", PyList::empty(py), whole),
                ))
            }
            _ => Err(lost()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `{exit, killed, []}`, without the version byte.
const KILLED: &[u8] = b"\x68\x03\x77\x04exit\x77\x06killed\x6a";

impl End {
    /// Makes the exception for `{Class, Reason, Stacktrace}`. A term without a Python form becomes an
    /// `erlang.Term`.
    fn error(&self, py: Python<'_>, child: &Child) -> PyResult<PyErr> {
        let term = self.term()?;
        let whole = term.get(1..).unwrap_or_default();
        let found = value(py, child, term, &|| false).ok();
        let parts =
            found.and_then(|found| found.extract::<(Py<PyAny>, Py<PyAny>, Py<PyAny>)>().ok());
        let whole = Bound::new(py, opaque_term(whole))?;
        Ok(match parts {
            Some((class, reason, stack)) => erlang_error(py, (class, reason, stack, whole)),
            None => {
                let class = class_of(term);
                erlang_error(py, (class, &whole, PyTuple::empty(py), &whole))
            }
        })
    }
}

impl End {
    /// Makes the exception for a reason without a form in Python, which becomes an `erlang.Term`.
    fn opaque_error(&self, py: Python<'_>, child: &Child) -> PyResult<PyErr> {
        let mut fields = Fields::new(self.term()?);
        let (Some(reason), Some(stack)) = (fields.bytes(), fields.bytes()) else {
            return Err(lost());
        };
        let opaque = |term: &[u8]| Bound::new(py, opaque_term(term.get(1..).unwrap_or_default()));
        let stack = match value(py, child, stack, &|| false) {
            Ok(stack) => stack,
            Err(_) => opaque(stack)?.into_any(),
        };
        let whole = fields.rest();
        let parts = (class_of(whole), opaque(reason)?, stack, opaque(whole)?);
        Ok(erlang_error(py, parts))
    }
}

/// Returns the class of `{Class, Reason, Stacktrace}`, of which another element has no Python form.
fn class_of(term: &[u8]) -> &'static str {
    let names = ["error", "exit", "throw"];
    let has = |name: &&&str| {
        term.get(5..)
            .is_some_and(|rest| rest.starts_with(name.as_bytes()))
    };
    names.iter().find(has).copied().unwrap_or("error")
}

pub(crate) fn into_exception(error: py_codec::Error) -> PyErr {
    crate::values::exception(error.into())
}

pub(crate) fn lost() -> PyErr {
    PyRuntimeError::new_err("the application erlang_python does not run")
}

/// Sends the frame that `write` makes for a new call, and waits for its end, without jobs in the middle.
pub(crate) fn ask(
    py: Python<'_>,
    child: &Child,
    host: &dyn Host,
    write: impl FnOnce(u64) -> PyResult<Message>,
) -> PyResult<End> {
    let id = next_id(py)?;
    let callback = Callback::new(id, host.waker());
    let frame = write(id)?;
    lock(&child.calls).insert(id, Arc::clone(&callback));
    if child.connection.send(&frame).is_err() {
        lock(&child.calls).remove(&id);
        return Err(lost());
    }
    loop {
        match callback.take() {
            Some(Event::Answer(answer)) => {
                let end = answer.as_any().downcast_ref::<End>();
                return end.cloned().ok_or_else(lost);
            }
            Some(Event::Job(job)) => job.refuse(),
            None => host.park(py, &|| callback.is_woken()),
        }
    }
}
