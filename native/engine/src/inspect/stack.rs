//! Reads the frames of a stack, and of a coroutine that waits. Called by the inspector, attached; every
//! attribute is a field in C, so no Python code runs, and nothing here releases the GIL.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::interpreter::{self, FrameFields, Interpreter};

/// Most frames of one stack. Those further out are left out.
const MAX_FRAMES: usize = 200;

/// One function of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub file: String,
    pub line: u32,
    pub function: String,
}

/// Makes the names of the fields. Called once, by `start`.
pub(crate) fn fields(py: Python<'_>) -> FrameFields {
    let name = |text: &str| PyString::intern(py, text).unbind();
    FrameFields {
        back: name("f_back"),
        code: name("f_code"),
        line: name("f_lineno"),
        file: name("co_filename"),
        function: name("co_qualname"),
        coroutine: ["cr_frame", "cr_await"].map(name),
        generator: ["gi_frame", "gi_yieldfrom"].map(name),
    }
}

/// Returns a frame and those around it, up to that at the address `base`, innermost first.
pub(super) fn frames_of(innermost: Bound<'_, PyAny>, base: usize) -> Vec<Frame> {
    let mut found = Vec::new();
    let Ok(Interpreter { frame_fields, .. }) = interpreter::find(innermost.py()) else {
        return found;
    };
    let mut next = Some(innermost);
    while found.len() < MAX_FRAMES
        && let Some(frame) = next.filter(|frame| frame.as_ptr().addr() != base)
    {
        found.extend(read(&frame, frame_fields));
        next = field(&frame, &frame_fields.back);
    }
    found
}

/// Returns the frames of a coroutine and of what it awaits, innermost first. What is no coroutine and no
/// generator, as a future, ends the walk: its attributes may be code.
pub(super) fn coroutine_frames(outermost: Bound<'_, PyAny>) -> Vec<Frame> {
    let py = outermost.py();
    let mut found = Vec::new();
    let Ok(Interpreter {
        frame_fields,
        types,
        ..
    }) = interpreter::find(py)
    else {
        return found;
    };
    let mut next = Some(outermost);
    while found.len() < MAX_FRAMES
        && let Some(awaited) = next
    {
        let class = awaited.get_type();
        let [frame, inner] = if class.is(types.coroutine.bind(py)) {
            &frame_fields.coroutine
        } else if class.is(types.generator.bind(py)) {
            &frame_fields.generator
        } else {
            break;
        };
        let frame = field(&awaited, frame);
        found.extend(frame.and_then(|frame| read(&frame, frame_fields)));
        next = field(&awaited, inner);
    }
    found.reverse();
    found
}

/// Reads one frame; `None` for what is none.
fn read(frame: &Bound<'_, PyAny>, fields: &FrameFields) -> Option<Frame> {
    let code = field(frame, &fields.code)?;
    let text = |name| {
        let text = field(&code, name)?.cast_into::<PyString>().ok()?;
        Some(text.to_string_lossy().into_owned())
    };
    Some(Frame {
        file: text(&fields.file)?,
        // A frame may have no line, as one that begins.
        line: field(frame, &fields.line).map_or(0, |line| line.extract().unwrap_or(0)),
        function: text(&fields.function)?,
    })
}

/// Returns the value of a field; nothing for `None`.
fn field<'py>(object: &Bound<'py, PyAny>, name: &Py<PyString>) -> Option<Bound<'py, PyAny>> {
    let value = object.getattr(name.bind(object.py())).ok()?;
    (!value.is_none()).then_some(value)
}
