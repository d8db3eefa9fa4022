//! Every error of a job, as a Rust value, a Python exception and a term. Made and encoded on any
//! thread; only `From<PyErr>` and `into_exception` need the GIL. Nothing here blocks.

use py_codec::{Step, Unconvertible};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rustler::{Atom, Encoder, Env, Term};
use std::fmt;
use std::panic::RefUnwindSafe;

use py_engine::exception::Exception;
use py_engine::interrupt::Interrupted;

use crate::atoms;
use crate::exception::encode;
use crate::term::small_map;

pub(crate) use py_codec::Why;

#[derive(Debug)]
pub(crate) enum Error {
    NoWorkersAvailable,
    Overloaded,
    /// The stream has an open demand, so it takes no other.
    Busy,
    WorkerCrashed,
    /// The child process has ended.
    WorkerExited(Exited),
    ContextNotBound,
    Interrupted,
    Unconvertible(Unconvertible),
    Python(Box<Exception>),
}

/// How a child process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exited {
    Status(u32),
    Signal(u32),
    /// Nothing has told the status in time.
    Unknown,
    /// The process was killed, since it has broken the protocol.
    Malformed,
    /// The process was killed, since it had more memory than its limit.
    MemoryLimit,
}

impl Encoder for Exited {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let (key, value) = match self {
            Self::Status(status) => (atoms::status(), status.encode(env)),
            Self::Signal(signal) => (atoms::signal(), signal.encode(env)),
            Self::Unknown => (atoms::status(), atoms::unknown().encode(env)),
            Self::Malformed => (atoms::killed(), atoms::malformed().encode(env)),
            Self::MemoryLimit => {
                let signal = (atoms::signal(), libc::SIGKILL.encode(env));
                return small_map(
                    env,
                    &[signal, (atoms::limit(), atoms::memory().encode(env))],
                );
            }
        };
        small_map(env, &[(key, value)])
    }
}

impl Error {
    pub(crate) fn unconvertible(why: Why, value: impl Into<String>) -> Self {
        Self::Unconvertible(Unconvertible {
            why,
            value: value.into(),
            path: Vec::new(),
        })
    }

    /// Returns the exception that Python code gets for this error, where the code has called
    /// Erlang.
    pub(crate) fn into_exception(self) -> PyErr {
        match self {
            Self::Interrupted => Interrupted::new_err(()),
            Self::Unconvertible(_) => PyValueError::new_err(self.to_string()),
            _ => PyRuntimeError::new_err(self.to_string()),
        }
    }

    /// Returns `true` for a mistake of the caller, which `py` raises there; other errors are
    /// returned.
    pub(crate) fn is_raised(&self) -> bool {
        matches!(self, Self::ContextNotBound)
    }
}

fn encode_step<'a>(env: Env<'a>, step: &Step) -> Term<'a> {
    match step {
        Step::Number(number) => number.encode(env),
        Step::Key(key) => key.as_str().encode(env),
    }
}

fn atom_of(why: Why) -> Atom {
    match why {
        Why::ImproperList => atoms::improper_list(),
        Why::TooDeep => atoms::too_deep(),
        Why::Cycle => atoms::cycle(),
        Why::KeyCollision => atoms::key_collision(),
        Why::UnhashableKey => atoms::unhashable_key(),
        Why::NotUnicode => atoms::not_unicode(),
        Why::TooLarge => atoms::too_large(),
        Why::ForeignObject => atoms::foreign_object(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkersAvailable => f.write_str("every worker is leased"),
            Self::Overloaded => f.write_str("too many jobs wait already"),
            Self::Busy => f.write_str("a demand of the stream is open"),
            Self::WorkerCrashed => f.write_str("the worker crashed"),
            Self::WorkerExited(exited) => write!(f, "the worker's process has ended: {exited:?}"),
            Self::ContextNotBound => f.write_str("the context has ended"),
            Self::Interrupted => f.write_str("the call was interrupted"),
            Self::Unconvertible(u) => write!(f, "cannot convert ({:?}): {}", u.why, u.value),
            Self::Python(e) => write!(f, "{}: {}", e.class, e.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<PyErr> for Error {
    /// Captures an exception. Called on an attached thread only; runs the `__str__` of the
    /// exception, which may do anything.
    fn from(err: PyErr) -> Self {
        let captured = Python::attach(|py| Exception::capture(py, &err));
        // `capture` refuses an interrupt, which is for this job or for a job around it.
        captured.map_or(Self::Interrupted, |e| Self::Python(Box::new(e)))
    }
}

impl From<py_codec::Error> for Error {
    /// Converts an error of the codec. Called attached, since it may capture an exception.
    fn from(error: py_codec::Error) -> Self {
        match error {
            py_codec::Error::Unconvertible(unconvertible) => Self::Unconvertible(unconvertible),
            py_codec::Error::Interrupted => Self::Interrupted,
            py_codec::Error::Python(error) => error.into(),
            // Unreachable: only the decoder of the external term format finds malformed input, and
            // the NIF reads terms of the BEAM.
            py_codec::Error::Malformed { .. } => Self::WorkerCrashed,
        }
    }
}

impl Encoder for Error {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Self::NoWorkersAvailable => atoms::no_workers_available().encode(env),
            Self::Overloaded => atoms::overloaded().encode(env),
            Self::Busy => atoms::busy().encode(env),
            Self::WorkerCrashed => atoms::worker_crashed().encode(env),
            Self::WorkerExited(exited) => (atoms::worker_exited(), exited).encode(env),
            Self::ContextNotBound => atoms::context_not_bound().encode(env),
            Self::Interrupted => atoms::interrupted().encode(env),
            Self::Unconvertible(u) => {
                let mut info = vec![
                    (atoms::reason(), atom_of(u.why).encode(env)),
                    (atoms::value(), u.value.as_str().encode(env)),
                ];
                if !u.path.is_empty() {
                    let steps: Vec<_> = u
                        .path
                        .iter()
                        .rev()
                        .map(|step| encode_step(env, step))
                        .collect();
                    info.push((atoms::path(), steps.encode(env)));
                }
                (atoms::unconvertible(), small_map(env, &info)).encode(env)
            }
            Self::Python(exception) => encode(env, exception),
        }
    }
}

/// The result of a NIF that may refuse: `Err` becomes `{error, Reason}`, and no message is sent.
pub(crate) type Refusable<T> = Result<T, Refusal>;

pub(crate) struct Refusal(pub(crate) Error);

// A NIF never reads the Python objects of an exception, so a panic cannot show them half changed.
impl RefUnwindSafe for Refusal {}

impl Encoder for Refusal {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.0.encode(env)
    }
}
