//! What code writes to standard output and error, as far as the calling thread goes: the beginning of a
//! line, until its end comes, and the host of a thread that a job has started.
//!
//! Thread-local, so that the lines of two threads are never mixed. Called on any thread that runs Python
//! code, attached; blocks only as [`Host::output`] does.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use crate::host::{Host, Stream};

/// Bytes of text without a line end that wait for the rest of their line.
const MAX_PARTIAL: usize = 1 << 13;

/// Most bytes of one call of the host: a longer text comes in pieces.
const MAX_PIECE: usize = 1 << 16;

thread_local! {
    static OUTPUT: ThreadOutput = const { ThreadOutput::new() };
}

struct ThreadOutput {
    partial: RefCell<Partial>,
    /// The host of a thread that code of a job has started.
    host: RefCell<Option<Arc<dyn Host>>>,
}

impl ThreadOutput {
    const fn new() -> Self {
        Self {
            partial: RefCell::new(Partial::new()),
            host: RefCell::new(None),
        }
    }
}

/// The beginnings of lines.
struct Partial {
    /// The host of the code that has written them; `None` while both are empty.
    host: Option<Arc<dyn Host>>,
    /// Of standard output and of standard error.
    texts: [String; 2],
    /// The bytes of a character that has not ended, after each text.
    tails: [Vec<u8>; 2],
}

impl Partial {
    const fn new() -> Self {
        Self {
            host: None,
            texts: [String::new(), String::new()],
            tails: [Vec::new(), Vec::new()],
        }
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.texts.iter().all(String::is_empty) && self.tails.iter().all(Vec::is_empty)
    }
}

/// Writes text of the code of `host`: whole lines at once, and the rest when its line ends, is flushed, or
/// becomes long.
pub(crate) fn write(py: Python<'_>, host: &Arc<dyn Host>, stream: Stream, text: &str) {
    let is_of_host = OUTPUT.try_with(|output| {
        let partial = output.partial.borrow();
        partial.host.as_ref().is_none_or(|of| Arc::ptr_eq(of, host))
    });
    match is_of_host {
        Ok(true) => {}
        Ok(false) => flush(py),
        // The thread ends, and its thread-locals are gone.
        Err(_) => return pass(py, &**host, stream, text),
    }
    let whole = OUTPUT.with(|output| {
        let mut partial = output.partial.borrow_mut();
        let rest = &mut partial.texts[stream as usize];
        rest.push_str(text);
        let end = match text.rfind('\n') {
            Some(at) => rest.len() - text.len() + at + 1,
            None if rest.len() > MAX_PARTIAL => rest.len(),
            None => 0,
        };
        let after = rest.split_off(end);
        let whole = mem::replace(rest, after);
        let is_empty = partial.is_empty();
        // The host is dropped after the borrow.
        let host = (!is_empty).then(|| Arc::clone(host));
        (whole, mem::replace(&mut partial.host, host))
    });
    pass(py, &**host, stream, &whole.0);
}

/// Writes bytes of the code of `host` as text. Those of a character that has not ended wait for the rest; those
/// that are no text are escaped.
pub(crate) fn write_bytes(py: Python<'_>, host: &Arc<dyn Host>, stream: Stream, bytes: &[u8]) {
    // Bytes of other code are no beginning of these.
    write(py, host, stream, "");
    let take =
        |output: &ThreadOutput| mem::take(&mut output.partial.borrow_mut().tails[stream as usize]);
    let mut whole = OUTPUT.try_with(take).unwrap_or_default();
    whole.extend_from_slice(bytes);
    let (text, tail) = decode(&whole);
    write(py, host, stream, &text);
    if tail.is_empty() {
        return;
    }
    let keep = |output: &ThreadOutput| {
        let mut partial = output.partial.borrow_mut();
        partial.tails[stream as usize] = tail.to_vec();
        partial.host.replace(Arc::clone(host))
    };
    // The host before is dropped after the borrow.
    drop(OUTPUT.try_with(keep));
}

/// Returns the text of bytes, and the bytes at the end that may begin a character.
fn decode(bytes: &[u8]) -> (String, &[u8]) {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return (text, &[]);
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let Some(length) = error.error_len() else {
                    return (text, after);
                };
                let (bad, good) = after.split_at(length);
                bad.iter().for_each(|byte| escape(*byte, &mut text));
                rest = good;
            }
        }
    }
}

/// Adds a byte that is no text, as Python's `backslashreplace` does.
fn escape(byte: u8, text: &mut String) {
    text.push_str(&format!("\\x{byte:02x}"));
}

/// Writes the beginnings of lines that the calling thread has. Called when a job or a thread ends, and by
/// `flush` of the streams.
pub(crate) fn flush(py: Python<'_>) {
    let take = |output: &ThreadOutput| {
        let mut partial = output.partial.borrow_mut();
        let host = partial.host.take()?;
        let mut texts = partial.texts.each_mut().map(mem::take);
        let tails = partial.tails.each_mut().map(mem::take);
        for (text, tail) in texts.iter_mut().zip(tails) {
            tail.iter().for_each(|byte| escape(*byte, text));
        }
        Some((host, texts))
    };
    if let Ok(Some((host, [stdout, stderr]))) = OUTPUT.try_with(take) {
        pass(py, &*host, Stream::Stdout, &stdout);
        pass(py, &*host, Stream::Stderr, &stderr);
    }
}

/// Passes text to a host, in pieces.
fn pass(py: Python<'_>, host: &dyn Host, stream: Stream, text: &str) {
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(MAX_PIECE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        host.output(py, stream, piece);
        rest = after;
    }
}

/// Makes `host` that of the code of the calling thread, which a job has started. Called before the code
/// runs.
pub(crate) fn set_thread_host(host: Option<Arc<dyn Host>>) {
    let old = OUTPUT.with(|output| output.host.replace(host));
    drop(old);
}

/// Returns the host of the code of the calling thread, if a job has started the thread.
pub(crate) fn thread_host() -> Option<Arc<dyn Host>> {
    let host = OUTPUT.try_with(|output| output.host.borrow().clone());
    host.ok().flatten()
}
