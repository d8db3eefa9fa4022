//! The frames of a traceback, as plain data. Runs on workers, attached.

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustler::{Encoder, Env, Term};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::convert::make_map;
use crate::exception::lossy;
use crate::{atoms, code};

/// Frames kept of a traceback, the innermost ones: a runaway recursion has a thousand alike.
const MAX_FRAMES: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    file: String,
    line: u32,
    function: String,
    /// Known for the code that Erlang passed in; files are read when an error is printed.
    source: Option<String>,
}

pub(crate) fn frames(value: &Bound<'_, PyBaseException>) -> PyResult<Vec<Frame>> {
    let py = value.py();
    let mut innermost = VecDeque::new();
    let mut next = value.getattr(intern!(py, "__traceback__"))?;
    while !next.is_none() {
        if innermost.len() == MAX_FRAMES {
            innermost.pop_front();
        }
        let inner = next.getattr(intern!(py, "tb_next"))?;
        innermost.push_back(next);
        next = inner;
    }
    let mut known = HashMap::new();
    innermost
        .iter()
        .map(|traceback| {
            let line = traceback.getattr(intern!(py, "tb_lineno"))?;
            let line = line.extract().unwrap_or(0);
            let code = traceback
                .getattr(intern!(py, "tb_frame"))?
                .getattr(intern!(py, "f_code"))?;
            // The frames of a recursion are alike, and a line of a long source is far.
            let frame = match known.entry((code.as_ptr(), line)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Frame::at(&code, line)?),
            };
            Ok(frame.clone())
        })
        .collect()
}

impl Frame {
    fn at(code: &Bound<'_, PyAny>, line: u32) -> PyResult<Self> {
        let py = code.py();
        let text = |name: &Bound<'_, PyString>| -> PyResult<String> {
            Ok(lossy(&code.getattr(name)?.str()?))
        };
        let file = text(intern!(py, "co_filename"))?;
        let is_kept = file == code::FILE;
        Ok(Self {
            file,
            line,
            function: text(intern!(py, "co_name"))?,
            source: is_kept.then(|| code::source_line(code, line)).flatten(),
        })
    }
}

impl Encoder for Frame {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let mut pairs = vec![
            (atoms::file(), self.file.encode(env)),
            (atoms::line(), self.line.encode(env)),
            (atoms::function(), self.function.encode(env)),
        ];
        if let Some(source) = &self.source {
            pairs.push((atoms::source(), source.encode(env)));
        }
        make_map(env, &pairs)
    }
}
