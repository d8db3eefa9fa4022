//! The bytes of a child, as frames. Called by the thread of the children; blocks on nothing.

use std::io::ErrorKind;
use std::sync::Arc;

use py_codec::Unconvertible;
use py_codec::frame::{Fields, FrameWriter, Payload};
use py_codec::protocol::{from_child, status};
use py_engine::lock::lock;

use super::ending::lost;
use super::frames::handle;
use super::memory::SharedMemory;
use super::socket::Socket;
use super::worker::ProcessWorker;
use crate::error::{Exited, Why};
use crate::job::ReplyBuffer;

/// Reads what has come, and handles each whole frame.
pub(super) fn read(worker: &Arc<ProcessWorker>, socket: &Socket, replies: &mut ReplyBuffer) {
    let mut inbox = std::mem::take(&mut *lock(&worker.inbox));
    let come = inbox.receive(|room| socket.receive(room));
    let is_lost = match come {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    };
    let is_broken = loop {
        match inbox.next_frame() {
            Ok(Some((kind, payload))) => {
                if received(worker, kind, payload, replies).is_none() {
                    break true;
                }
            }
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    *lock(&worker.inbox) = inbox;
    if is_broken || is_lost {
        lost(worker, is_broken.then_some(Exited::Malformed), replies);
    }
}

/// Most bytes of a payload without a value.
const MAX_SMALL: usize = 1 << 20;

fn is_value(kind: u8) -> bool {
    matches!(
        kind,
        from_child::REPLY | from_child::CALL | from_child::SEND
    )
}

/// Tells the caller of a job that there was no room for its result.
fn reply_lost(worker: &Arc<ProcessWorker>, begin: &[u8], replies: &mut ReplyBuffer) -> Option<()> {
    let job = Fields::new(begin).word()?;
    let text = "result: the VM may open no more files, or has no room for it";
    let error = Unconvertible {
        why: Why::TooLarge,
        value: text.to_owned(),
        path: Vec::new(),
    };
    let mut frame = FrameWriter::new(from_child::REPLY);
    frame
        .word(job)
        .byte(status::UNCONVERTIBLE)
        .byte(0)
        .unconvertible(&error);
    let payload = frame.into_payload();
    handle(worker, from_child::REPLY, &payload, None, replies)
}

/// Handles a frame, whose payload may be in memory that the child has shared.
fn received(
    worker: &Arc<ProcessWorker>,
    kind: u8,
    payload: Payload<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    match payload {
        Payload::Bytes(bytes) => handle(worker, kind, bytes, None, replies),
        // Other frames are small, and are read more than once.
        Payload::Memory(memory) if memory.len() > MAX_SMALL && !is_value(kind) => None,
        Payload::Memory(memory) => {
            let memory = SharedMemory::new(memory);
            handle(worker, kind, memory.bytes(), Some(&memory), replies)
        }
        // The VM may have no more descriptors, or no room.
        Payload::Lost(begin) if kind == from_child::REPLY => reply_lost(worker, begin, replies),
        Payload::Lost(_) => None,
    }
}
