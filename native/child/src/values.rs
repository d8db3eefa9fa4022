//! Values and exceptions in frames. Called attached, on the thread that runs the code; runs Python code
//! only as the codec and the capture of an exception do.

use py_codec::etf::{Decoder, Encoder};
use py_codec::frame::{FrameWriter, Message};
use py_codec::protocol::{from_child, status};
use py_codec::{Error, Rules, Stop, Unconvertible, Why, Written, read, write};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use py_engine::exception::{Exception, write as write_exception};
use py_engine::host::TaskOutcome;
use py_engine::interrupt::Interrupted;

use crate::child::Child;
use crate::jobs::JobState;

/// The reason for which a job has no value.
pub(crate) enum Failure {
    Interrupted,
    Unconvertible(Unconvertible),
    Python(Box<Exception>),
}

impl From<PyErr> for Failure {
    /// Captures an exception, and so runs its `__str__`.
    fn from(error: PyErr) -> Self {
        let captured = Python::attach(|py| Exception::capture(py, &error));
        captured.map_or(Self::Interrupted, |exception| {
            Self::Python(Box::new(exception))
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unconvertible(unconvertible) => Self::Unconvertible(unconvertible),
            Error::Interrupted => Self::Interrupted,
            Error::Python(error) => error.into(),
            Error::Malformed { what, .. } => Error::unconvertible(Why::NotUnicode, what).into(),
        }
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused => Error::unconvertible(Why::TooLarge, "term").into(),
            Stop::Failed(error) => (*error).into(),
        }
    }
}

/// Returns the exception that code gets for a value that it cannot pass to Erlang.
pub(crate) fn exception(stop: Stop) -> PyErr {
    match stop {
        Stop::Refused => PyValueError::new_err("cannot convert (TooLarge): term"),
        Stop::Failed(error) => match *error {
            Error::Python(error) => error,
            Error::Interrupted => Interrupted::new_err(()),
            Error::Unconvertible(_) => PyValueError::new_err(error.to_string()),
            Error::Malformed { .. } => PyRuntimeError::new_err(error.to_string()),
        },
    }
}

/// Appends the byte `special` and the term of `object` to a frame.
pub(crate) fn add_value<'a>(
    frame: &mut FrameWriter<'a>,
    child: &'a Child,
    object: &Bound<'_, PyAny>,
    rules: &dyn Rules,
) -> Written {
    frame.tagged(|body| {
        let mut encoder = Encoder::after(std::mem::take(body), Some(&child.objects));
        let written = write(object, &mut encoder, rules);
        let is_special = encoder.is_special();
        *body = encoder.into_body();
        written.map(|()| u8::from(is_special))
    })
}

/// Returns the frame of a value. A big one is copied detached: other threads of the code go on meanwhile.
pub(crate) fn finish(py: Python<'_>, frame: &mut FrameWriter<'_>) -> Message {
    if frame.is_big() {
        return py.detach(|| frame.finish());
    }
    frame.finish()
}

/// Returns the object of a term.
pub(crate) fn value<'py>(
    py: Python<'py>,
    child: &Child,
    term: &[u8],
    rules: &dyn Rules,
) -> Result<Bound<'py, PyAny>, Error> {
    let mut decoder = Decoder::new(term)?.with_objects(&child.objects);
    let object = read(py, &mut decoder, rules)?;
    decoder.finish()?;
    Ok(object)
}

/// Returns the frame of a reply without a value.
pub(crate) fn plain_reply(job: u64, status: u8) -> Message {
    let mut frame = FrameWriter::new(from_child::REPLY);
    frame.word(job).byte(status).byte(0);
    frame.finish()
}

/// Returns the frame of a reply with an error.
pub(crate) fn failed_reply(job: u64, failure: &Failure) -> Message {
    let mut frame = FrameWriter::new(from_child::REPLY);
    frame.word(job);
    match failure {
        Failure::Interrupted => {
            frame.byte(status::INTERRUPTED).byte(0);
        }
        Failure::Unconvertible(unconvertible) => {
            frame.byte(status::UNCONVERTIBLE).byte(0);
            frame.unconvertible(unconvertible);
        }
        Failure::Python(exception) => {
            frame.byte(status::RAISED).byte(0);
            // Cannot fail: the texts of an exception are bounded.
            let _: Written = frame.last(|body| {
                let mut encoder = Encoder::after(std::mem::take(body), None);
                let written = write_exception(exception, &mut encoder);
                *body = encoder.into_body();
                written
            });
        }
    }
    frame.finish()
}

/// Returns the reply of a task.
pub(crate) fn task_reply(
    py: Python<'_>,
    child: &Child,
    job: &JobState,
    outcome: TaskOutcome<'_>,
    rules: &dyn Rules,
) -> Message {
    let failure = match outcome {
        TaskOutcome::Value(value) => {
            let mut frame = FrameWriter::new(from_child::REPLY);
            frame.word(job.id).byte(status::VALUE);
            match add_value(&mut frame, child, &value, rules) {
                Ok(()) => return finish(py, &mut frame),
                Err(stop) => stop.into(),
            }
        }
        _ if job.must_stop() => Failure::Interrupted,
        TaskOutcome::Cancelled(error) | TaskOutcome::Raised(error) => {
            // An interrupt may have been meant for another job.
            if error.is_instance_of::<Interrupted>(py) {
                Failure::Interrupted
            } else {
                error.into()
            }
        }
    };
    failed_reply(job.id, &failure)
}
