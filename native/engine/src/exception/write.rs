//! A captured exception as a term: `{Type, #{class, message, traceback, cause, ...}}`, written to any
//! [`Writer`]. Called on the thread that sends the reply; needs no GIL, and blocks on nothing.

use py_codec::{Keys, Writer, Written};

use super::{Exception, Frame, Syntax};

/// Writes `{Type, Info}`. Fails as the writer does: the texts of an exception are bounded, and its keys
/// are different atoms.
pub fn write(exception: &Exception, writer: &mut impl Writer) -> Written {
    writer.begin_tuple(2)?;
    writer.atom(exception.kind)?;
    info(exception, writer)?;
    writer.end_tuple(2)
}

fn info<W: Writer>(exception: &Exception, writer: &mut W) -> Written {
    writer.begin_map(4)?;
    let mut size = 4;
    text(writer, "class", &exception.class)?;
    text(writer, "message", &exception.message)?;
    writer.atom("traceback")?;
    list(writer, &exception.frames, frame)?;
    writer.atom("cause")?;
    match &exception.cause {
        None => writer.atom("none")?,
        Some(cause) => {
            info(&cause.exception, writer)?;
            writer.atom("chain")?;
            writer.atom(if cause.explicit { "cause" } else { "context" })?;
            size += 1;
        }
    }
    if let Some(members) = &exception.exceptions {
        writer.atom("exceptions")?;
        list(writer, members, info)?;
        size += 1;
    }
    if !exception.notes.is_empty() {
        writer.atom("notes")?;
        let note = |note: &String, writer: &mut W| writer.binary(note.as_bytes(), None);
        list(writer, &exception.notes, note)?;
        size += 1;
    }
    if let Some(term) = &exception.origin {
        writer.atom("erlang")?;
        writer.opaque(term.get())?;
        size += 1;
    }
    if let Some(name) = &exception.unknown_name {
        text(writer, "unknown_name", name)?;
        size += 1;
    }
    if let Some(found) = &exception.syntax {
        writer.atom("syntax")?;
        syntax(found, writer)?;
        size += 1;
    }
    writer.end_map(size, Keys::Distinct)
}

fn list<T, W: Writer>(
    writer: &mut W,
    items: &[T],
    write: impl Fn(&T, &mut W) -> Written,
) -> Written {
    writer.begin_list(items.len())?;
    for item in items {
        write(item, writer)?;
    }
    writer.end_list(items.len())
}

fn text(writer: &mut impl Writer, key: &'static str, text: &str) -> Written {
    writer.atom(key)?;
    writer.binary(text.as_bytes(), None)
}

fn number(writer: &mut impl Writer, key: &'static str, number: u32) -> Written {
    writer.atom(key)?;
    writer.integer(i64::from(number))
}

fn frame(frame: &Frame, writer: &mut impl Writer) -> Written {
    writer.begin_map(3)?;
    text(writer, "file", &frame.file)?;
    number(writer, "line", frame.line)?;
    text(writer, "function", &frame.function)?;
    if let Some(source) = &frame.source {
        text(writer, "source", source)?;
    }
    let size = 3 + usize::from(frame.source.is_some());
    writer.end_map(size, Keys::Distinct)
}

fn syntax(syntax: &Syntax, writer: &mut impl Writer) -> Written {
    writer.begin_map(6)?;
    text(writer, "message", &syntax.message)?;
    text(writer, "file", &syntax.file)?;
    number(writer, "line", syntax.line)?;
    number(writer, "offset", syntax.offset)?;
    number(writer, "end_offset", syntax.end_offset)?;
    text(writer, "text", &syntax.text)?;
    writer.end_map(6, Keys::Distinct)
}
