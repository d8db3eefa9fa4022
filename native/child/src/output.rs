//! Sends text and log records of code in a child, as frames. Called attached, on the thread that runs the code; blocks
//! detached while the socket is full, and for a short time while the VM has no room.

use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use py_codec::frame::FrameWriter;
use py_codec::protocol::{from_child, outcome, question};
use py_engine::host::{Host, LogRecord, Stream};

use crate::host::ChildHost;

/// How long code waits for room, and the time between two questions.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// Bytes of output after which the VM is asked whether it has room: less than what may wait there.
const ASK_AFTER: usize = 1 << 18;

/// Bytes that a frame costs the VM beside its text.
const FRAME: usize = 256;

/// Most bytes of a name in a log record; the VM takes no more.
const MAX_NAME: usize = 1 << 12;

impl ChildHost {
    /// Sends text that the code has written. Blocks, detached, while the socket is full.
    pub(crate) fn send_output(&self, py: Python<'_>, stream: Stream, text: &str) {
        let mut frame = FrameWriter::new(from_child::OUTPUT);
        frame.word(self.output_job());
        frame.byte(stream as u8).rest(text.as_bytes());
        self.send_written(py, &mut frame, text.len());
    }

    /// Sends a log record, as text.
    pub(crate) fn send_log(&self, py: Python<'_>, record: &LogRecord) {
        let mut frame = FrameWriter::new(from_child::LOG);
        frame.word(self.output_job());
        frame.word(u64::from(record.level));
        frame.bytes(cut(&record.logger)).bytes(cut(&record.file));
        frame
            .word(u64::from(record.line))
            .bytes(cut(&record.function));
        frame.rest(record.message.as_bytes());
        let names = record.logger.len() + record.file.len() + record.function.len();
        self.send_written(py, &mut frame, record.message.len() + names);
    }

    fn send_written(&self, py: Python<'_>, frame: &mut FrameWriter<'_>, size: usize) {
        let frame = frame.finish();
        // Fails if the VM has gone: the process is about to end.
        let _: Result<(), _> = py.detach(|| self.child.connection.send(&frame));
        let unasked = &self.child.unasked_output;
        if unasked.fetch_add(size + FRAME, Ordering::Relaxed) > ASK_AFTER {
            unasked.store(0, Ordering::Relaxed);
            self.wait_for_room(py);
        }
    }

    /// Waits, detached, while much of the code's output has not been written yet; after [`PATIENCE`] the VM
    /// drops what follows.
    fn wait_for_room(&self, py: Python<'_>) {
        let end = Instant::now() + PATIENCE;
        let mut is_late = false;
        loop {
            let mut argument = self
                .job
                .as_ref()
                .map_or(0, |job| job.id)
                .to_le_bytes()
                .to_vec();
            argument.push(u8::from(is_late));
            let has_room = match self.ask(question::HAS_ROOM, &argument) {
                Ok(answer) => answer.outcome == outcome::VALUE,
                Err(_) => true,
            };
            if has_room || is_late {
                return;
            }
            py.detach(|| thread::sleep(PAUSE));
            is_late = self.must_stop() || Instant::now() > end;
        }
    }
}

/// Returns the beginning of a name.
fn cut(name: &str) -> &[u8] {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().as_bytes()
}
