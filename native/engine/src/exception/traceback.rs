//! The frames of a traceback, as plain data. Called on workers, attached; runs no code of a program
//! and blocks on nothing.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTraceback};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::{Capture, MAX_NAME, check};
use crate::python::code_cache;

/// Most frames kept of a traceback: the innermost ones. A runaway recursion has a thousand like them.
const MAX_FRAMES: usize = 256;

/// One line of a traceback.
#[derive(Clone, Debug)]
pub struct Frame {
    pub file: String,
    pub line: u32,
    pub function: String,
    /// The line of source, if Erlang has passed the code in. Erlang reads the lines of files when it
    /// prints the error.
    pub source: Option<String>,
}

/// Frames between two looks for a pending interrupt: some milliseconds.
const CHECK_INTERVAL: usize = 1 << 16;

/// Returns the innermost frames of an exception, within the limits of `capture`. The error is
/// `Interrupted`.
pub(crate) fn frames(
    value: &Bound<'_, PyBaseException>,
    capture: &mut Capture,
) -> PyResult<Vec<Frame>> {
    let py = value.py();
    // SAFETY: attached, and an exception; a new reference, or null if there is none.
    let mut next =
        unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyException_GetTraceback(value.as_ptr())) };
    let mut innermost = VecDeque::new();
    let mut walked = 0_usize;
    while let Some(Ok(traceback)) = next.map(Bound::cast_into_exact::<PyTraceback>) {
        if innermost.len() == MAX_FRAMES {
            innermost.pop_front();
        }
        next = traceback.getattr(intern!(py, "tb_next")).ok();
        innermost.push_back(traceback);
        walked += 1;
        if walked.is_multiple_of(CHECK_INTERVAL) {
            check(py)?;
        }
    }
    let kept = capture.take_frames(innermost.len());
    innermost.drain(..innermost.len() - kept);
    let mut known = HashMap::new();
    let frame = |traceback| frame(traceback, &mut known, capture);
    // No frame is left out in practice: no class can override the fields of tracebacks, frames and
    // code objects.
    Ok(innermost.iter().flat_map(frame).collect())
}

fn frame(
    traceback: &Bound<'_, PyTraceback>,
    known: &mut HashMap<(usize, u32), Frame>,
    capture: &mut Capture,
) -> PyResult<Frame> {
    let py = traceback.py();
    let line = traceback.getattr(intern!(py, "tb_lineno"))?;
    let line = line.extract().unwrap_or(0);
    let code = traceback
        .getattr(intern!(py, "tb_frame"))?
        .getattr(intern!(py, "f_code"))?;
    // A recursion has many frames with the same code and line, and to find a line of a long source
    // takes time.
    let frame = match known.entry((code.as_ptr().addr(), line)) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Frame::at(&code, line, capture)?),
    };
    Ok(frame.clone())
}

impl Frame {
    fn at(code: &Bound<'_, PyAny>, line: u32, capture: &mut Capture) -> PyResult<Self> {
        let py = code.py();
        let mut text = |name: &Bound<'_, PyString>| -> PyResult<String> {
            // The name may be of a subclass of `str`; none of its methods is called.
            let text = code.getattr(name)?.cast_into::<PyString>()?;
            Ok(capture.text(&text, MAX_NAME))
        };
        let file = text(intern!(py, "co_filename"))?;
        let function = text(intern!(py, "co_name"))?;
        let is_kept = file == code_cache::FILE;
        let source = is_kept
            .then(|| code_cache::source_line(code, line))
            .flatten();
        Ok(Self {
            file,
            line,
            function,
            source: source.map(|source| capture.line(source)),
        })
    }
}
