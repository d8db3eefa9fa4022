//! The output of Python code, on its way to `py_output`. Called on threads that run Python code, attached,
//! and by the thread of the child processes; only `write` may block, detached.

use pyo3::prelude::*;
use rustler::LocalPid;
use std::thread;
use std::time::{Duration, Instant};

use py_engine::host::{Host, Stream};

use crate::atoms;
use crate::job::ReplyBuffer;
use crate::output_queue::{Kind, Offer};
use crate::vm::VM;

/// How long a thread waits for room, without any of its text being written, before its text is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between two looks for room.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes text for a process. While much waits for the process, the thread waits, detached.
pub(super) fn write(
    py: Python<'_>,
    host: &dyn Host,
    caller: Option<LocalPid>,
    stream: Stream,
    text: &str,
) {
    if !offer(caller, stream, text, true) && !py.detach(|| wait(host, caller, stream, text)) {
        VM.output.give_up(caller);
        offer(caller, stream, text, false);
    }
}

/// Writes text for a process, or drops it if too much waits. Never blocks.
pub(crate) fn write_or_drop(caller: Option<LocalPid>, stream: Stream, text: &str) {
    offer(caller, stream, text, false);
}

/// Offers text until there is room; `false` after `PATIENCE`, or if the code must stop.
fn wait(host: &dyn Host, caller: Option<LocalPid>, stream: Stream, text: &str) -> bool {
    let end = Instant::now() + PATIENCE;
    while !host.must_stop() && Instant::now() < end {
        thread::sleep(PAUSE);
        if offer(caller, stream, text, true) {
            return true;
        }
    }
    false
}

/// Returns `false` if the queue is full.
fn offer(caller: Option<LocalPid>, stream: Stream, text: &str, may_wait: bool) -> bool {
    let kind = match stream {
        Stream::Stdout => Kind::Stdout,
        Stream::Stderr => Kind::Stderr,
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
