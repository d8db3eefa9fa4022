//! A job as it comes, and frames as they go. Called attached; a big frame is sent detached.

use pyo3::prelude::*;

use py_codec::frame::{Fields, Message};
use py_codec::protocol::request;

use crate::child::Child;
use crate::payload::{Payload, no_descriptor};
use crate::values::failed_reply;

/// A job as its frame describes it.
pub(crate) struct Incoming<'a> {
    pub(crate) id: u64,
    /// 0 for a job without a lease.
    pub(crate) lease: u64,
    pub(crate) generation: u64,
    pub(crate) logging: u64,
    /// How often a module was reloaded in the pool.
    pub(crate) reloads: u64,
    pub(crate) caller: &'a [u8],
    pub(crate) request: Fields<'a>,
}

/// Returns the job of a payload; `None` if that was lost, and says so.
pub(crate) fn incoming<'a>(
    py: Python<'_>,
    child: &Child,
    payload: &'a Payload,
) -> Option<Incoming<'a>> {
    if !payload.is_lost() {
        return Incoming::read(payload);
    }
    let job = Fields::new(payload).word()?;
    send(py, child, &failed_reply(job, &no_descriptor().into()));
    None
}

impl<'a> Incoming<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::new(payload);
        let (id, lease, _call) = (fields.word()?, fields.word()?, fields.word()?);
        Some(Self {
            id,
            lease,
            generation: fields.word()?,
            logging: fields.word()?,
            reloads: fields.word()?,
            caller: fields.bytes()?,
            request: fields,
        })
    }

    /// Whether the job runs statements.
    pub(crate) fn is_exec(&self) -> bool {
        let mut fields = self.request;
        let mut kind = fields.byte();
        if kind == Some(request::IN_FORM) {
            fields.byte();
            kind = fields.byte();
        }
        matches!(kind, Some(request::EXEC | request::BLOCK))
    }
}

/// The size from which a frame is sent detached, since that takes a while.
const DETACHED: usize = 1 << 16;

/// Sends a frame. Fails silently if the VM has gone: the process is about to end.
pub(crate) fn send(py: Python<'_>, child: &Child, frame: &Message) {
    // A descriptor that the kernel does not pass on is read, and its bytes are sent.
    let is_small = frame.bytes.len() < DETACHED && frame.descriptor.is_none();
    let _: std::io::Result<()> = if is_small {
        child.connection.send(frame)
    } else {
        py.detach(|| child.connection.send(frame))
    };
}
