//! Monitors of processes, for Python code: kept by `py_callback`, and asked by the code. Called attached, on the
//! thread that runs the code; nothing blocks.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustler::{Encoder, ResourceArc, Term};
use std::sync::Arc;

use py_engine::erlang::next_id;
use py_engine::host::callback::{Answer, Callback};
use py_engine::host::{Host, Wake};

use super::messages::{Destination, pid_object, unknown};
use super::{nested, not_running};
use crate::atoms;
use crate::convert::{self, to_message, to_object};
use crate::job::{CallbackHandle, CallbackQueue, Outcome, Pending, ReplyBuffer};
use crate::term::{ErlangTerm, OfBeam};
use crate::vm::VM;

/// A monitor of a process, kept by `py_callback` until this object is dropped.
#[pyclass(frozen, module = "erlang")]
struct Watch(Arc<Callback>);

/// Monitors a process, for `erlang.monitor`.
pub(super) fn watch<'py>(host: &dyn Host, dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = dest.py();
    let target = match Destination::find(dest)? {
        Destination::Local(pid) => pid_object(py, pid)?,
        Destination::Far(far) => Bound::new(py, far)?.into_any(),
        Destination::Unknown => return Err(unknown(dest)),
    };
    let server = VM.callbacks.pid().ok_or_else(not_running)?;
    let callback = Callback::new(next_id(py)?, Arc::new(NotAwaited));
    let sent = ReplyBuffer::new().send_to(&server, |env| {
        let pending = Pending::new(usize::MAX);
        let queue = CallbackQueue::new(&callback, None, pending, nested);
        let handle = ResourceArc::new(CallbackHandle(queue));
        let target = to_message(env, &target, host)?.term;
        let message = (atoms::py_monitor(), callback.id, handle, target).encode(env);
        Ok(convert::Answer::compact(message))
    });
    match sent {
        Ok(_) => Ok(Bound::new(py, Watch(callback))?.into_any()),
        Err(error) => Err(error.into_exception()),
    }
}

/// The waker of a monitor, which wakes no thread: Python code polls for the end of the process.
struct NotAwaited;

impl Wake for NotAwaited {
    fn wake(&self) {}
}

#[pymethods]
impl Watch {
    /// The number by which `py_callback` knows the monitor.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id
    }

    /// Returns `None` while the process lives, then a tuple of its exit reason.
    fn reason<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let host = py_engine::asyncio::host(py)?;
        let copy = self.0.peek(copy_reason);
        let form = |copy: ErlangTerm| copy.with(|reason| to_object(py, reason, &*host).ok());
        let found = copy.map(|copy| copy.and_then(form));
        match found {
            None => Ok(None),
            Some(Some(reason)) => Ok(Some(PyTuple::new(py, [reason])?)),
            // The process that has monitored it, or its answer, is lost.
            Some(None) => Ok(Some(PyTuple::new(py, ["noconnection"])?)),
        }
    }
}

/// Copies the `Reason` of an answer `{ok, Reason}`. Called under the callback's lock, so it makes
/// no Python object.
fn copy_reason(answer: &dyn Answer) -> Option<ErlangTerm> {
    match answer.as_any().downcast_ref()? {
        Outcome::Answered(env, term) => ErlangTerm::make(|copy_env| {
            env.run(|env| {
                let (_ok, reason) = term.load(env).decode::<(Term<'_>, Term<'_>)>().ok()?;
                Some(reason.in_env(copy_env))
            })
        }),
        Outcome::Lost => None,
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(server) = VM.callbacks.pid() {
            let message = (atoms::py_callback(), self.0.id, atoms::ended());
            ReplyBuffer::new().notify(&server, message);
        }
    }
}
