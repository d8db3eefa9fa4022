//! The output of Python code, on its way to `py_output`. Called on threads that run Python code, attached,
//! and by the thread of the child processes; only `write` may block, detached.

use pyo3::prelude::*;
use rustler::LocalPid;
use std::thread;
use std::time::{Duration, Instant};

use py_engine::host::{Host, LogRecord, Stream};

use crate::atoms;
use crate::job::ReplyBuffer;
use crate::output_queue::{Kind, LogPlace, Offer};
use crate::vm::VM;

/// How long a thread waits for room, without any of its text being written, before its text is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between two looks for room.
const PAUSE: Duration = Duration::from_millis(2);

/// Most bytes of a name, and of the message, of a log record: a part of what may wait for a process.
const MAX_NAME: usize = 1 << 10;
const MAX_MESSAGE: usize = 1 << 19;

/// Text, or a log record, on its way.
pub(crate) enum Written<'a> {
    Text(Stream, &'a str),
    /// A record, and the id of the lease that its code runs in.
    Log(&'a LogRecord, Option<u64>),
}

/// Passes on what code has written for a process. While much waits for the process, the thread waits,
/// detached.
pub(super) fn write(
    py: Python<'_>,
    host: &dyn Host,
    caller: Option<LocalPid>,
    written: &Written<'_>,
) {
    if !offer(caller, written, true) && !py.detach(|| wait(host, caller, written)) {
        VM.output.give_up(caller);
        offer(caller, written, false);
    }
}

/// Passes on what code has written for a process, or drops it if too much waits. Never blocks.
pub(crate) fn write_or_drop(caller: Option<LocalPid>, written: &Written<'_>) {
    offer(caller, written, false);
}

/// Offers until there is room; `false` after `PATIENCE`, or if the code must stop.
fn wait(host: &dyn Host, caller: Option<LocalPid>, written: &Written<'_>) -> bool {
    let end = Instant::now() + PATIENCE;
    while !host.must_stop() && Instant::now() < end {
        thread::sleep(PAUSE);
        if offer(caller, written, true) {
            return true;
        }
    }
    false
}

/// Returns `false` if the queue is full.
fn offer(caller: Option<LocalPid>, written: &Written<'_>, may_wait: bool) -> bool {
    let (kind, text) = match written {
        Written::Text(Stream::Stdout, text) => (Kind::Stdout, *text),
        Written::Text(Stream::Stderr, text) => (Kind::Stderr, *text),
        Written::Log(record, lease) => {
            let place = LogPlace {
                level: record.level,
                logger: cut(&record.logger, MAX_NAME).to_owned(),
                file: cut(&record.file, MAX_NAME).to_owned(),
                line: record.line,
                function: cut(&record.function, MAX_NAME).to_owned(),
                lease: *lease,
            };
            (
                Kind::Log(Box::new(place)),
                cut(&record.message, MAX_MESSAGE),
            )
        }
    };
    match VM.output.offer(caller, kind, text, may_wait) {
        Offer::Full => return false,
        Offer::Queued(Some(reader)) => {
            ReplyBuffer::new().notify(&reader, (atoms::py_output(), atoms::ready()));
        }
        Offer::Queued(None) | Offer::Dropped => {}
    }
    true
}

/// Returns the beginning of a text.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
