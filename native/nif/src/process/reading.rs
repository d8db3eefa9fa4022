//! The bytes of a child, as frames. Called by the thread of the children; blocks on nothing.

use std::io::ErrorKind;
use std::sync::Arc;

use py_codec::frame::Payload;
use py_codec::protocol::from_child;
use py_engine::lock::lock;

use super::ending::lost;
use super::frames::handle;
use super::memory::SharedMemory;
use super::socket::Socket;
use super::worker::ProcessWorker;
use crate::error::Exited;
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
        // The VM may have no more descriptors, or more than one has come.
        Payload::Lost(_) => None,
    }
}
