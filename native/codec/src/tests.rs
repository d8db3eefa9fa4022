//! Tests of the crate with a real Python and no BEAM. Each test runs attached, on a thread of its own.

mod corpus;
mod finalizers;
mod limits;
mod reading;
mod round_trip;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::CString;
use std::{panic, thread};

use crate::etf::{Decoder, Encoder, decode};
use crate::{Error, Stop, write};

/// Bytes of the stack of a test: a debug build needs some KiB for each nested container.
const STACK_SIZE: usize = 64 << 20;

/// Runs `test` attached, on a new thread, and passes its panic on.
fn attached(test: impl FnOnce(Python<'_>) + Send) {
    Python::initialize();
    let run = || Python::attach(test);
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_SIZE);
        let thread = thread.spawn_scoped(scope, run).unwrap();
        if let Err(panic) = thread.join() {
            panic::resume_unwind(panic);
        }
    });
}

fn eval<'py>(py: Python<'py>, code: &str) -> Bound<'py, PyAny> {
    let code = CString::new(code).unwrap();
    py.eval(&code, None, None).unwrap()
}

/// Runs statements, and returns their globals.
fn exec<'py>(py: Python<'py>, code: &str) -> Bound<'py, PyDict> {
    let (code, globals) = (CString::new(code).unwrap(), PyDict::new(py));
    py.run(&code, Some(&globals), None).unwrap();
    globals
}

fn repr(object: &Bound<'_, PyAny>) -> String {
    object.repr().unwrap().to_string()
}

/// Encodes an object, with binaries of any size.
fn encode(object: &Bound<'_, PyAny>) -> Result<Vec<u8>, Stop> {
    let mut encoder = Encoder::new(usize::MAX);
    write(object, &mut encoder, &|| false)?;
    Ok(encoder.into_bytes())
}

fn decoded<'py>(py: Python<'py>, bytes: &[u8]) -> Result<Bound<'py, PyAny>, Error> {
    decode(py, bytes, &|| false)
}

/// Returns the text of the error of a conversion.
fn failure<T>(result: Result<T, Stop>) -> String {
    match result {
        Ok(_) => "nothing".to_owned(),
        Err(Stop::Refused) => "refused".to_owned(),
        Err(Stop::Failed(error)) => error.to_string(),
    }
}

fn reader(bytes: &[u8]) -> Decoder<'_> {
    Decoder::new(bytes).unwrap()
}
