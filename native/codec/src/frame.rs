//! Frames: how a VM and a child process cut their sockets into messages. Used by the host in the VM and
//! by the one in the child, on any thread; needs no Python, and blocks on nothing but the `read` that a
//! caller of [`Inbox::receive`] passes.
//!
//! A frame is a word of eight bytes, little-endian, and a payload: the low byte of the word is the kind
//! of the frame, the others are the length of the payload. A payload is a row of fields without tags:
//! see [`crate::protocol`]. What comes from a child may be malformed: no length is believed before its
//! bytes have come.

mod body;
mod inbox;
#[cfg(test)]
mod tests;
mod unconvertible;

use std::io;
use std::os::fd::OwnedFd;

use crate::memory::{self, Memory};
use crate::protocol::MEMORY;

pub use body::Body;
pub use inbox::{Broken, Inbox, Payload};

/// Bytes before the payload.
const HEAD: usize = 8;

/// Most bytes of a payload: a value of [`MAX_BYTES`](crate::MAX_BYTES), and room for its structure.
pub const MAX_FRAME: usize = 1 << 32;

/// The size from which a payload is in memory of its own, whose descriptor comes with a frame. Binaries of this
/// size are not copied before.
pub const MIN_MEMORY: usize = 1 << 17;

/// Bytes of a payload in memory that are in the frame as well: they say whom the payload is for.
const BEGIN: usize = 24;

/// A frame that is ready to be sent.
#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    /// The descriptor of the payload's memory, which is sent with the first byte.
    pub descriptor: Option<OwnedFd>,
}

impl Message {
    /// Returns the frame with its payload, for a descriptor that cannot be sent.
    ///
    /// # Errors
    /// There is no descriptor, or no room to read the memory.
    pub fn inline(&self) -> io::Result<Vec<u8>> {
        let descriptor = self.descriptor.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let memory = Memory::open(descriptor, 0, usize::MAX)?.ok_or(io::ErrorKind::OutOfMemory)?;
        let kind = self.bytes.get(HEAD).copied().unwrap_or_default();
        let head = (memory.len() as u64) << 8 | u64::from(kind);
        Ok([&head.to_le_bytes()[..], &memory].concat())
    }
}

/// Builds one frame.
pub struct FrameWriter<'a> {
    body: Body<'a>,
}

impl<'a> FrameWriter<'a> {
    #[must_use]
    pub fn new(kind: u8) -> Self {
        let mut body = Body::default();
        body.bytes.reserve(128);
        body.bytes.extend(u64::from(kind).to_le_bytes());
        Self { body }
    }

    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.body.bytes.push(value);
        self
    }

    pub fn word(&mut self, value: u64) -> &mut Self {
        self.body.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds bytes, after their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.word(value.len() as u64);
        self.rest(value)
    }

    /// Adds bytes without their length: the last field of a payload.
    pub fn rest(&mut self, value: &[u8]) -> &mut Self {
        self.body.bytes.extend_from_slice(value);
        self
    }

    /// Adds a byte, and what `write` appends, of which it is told the value for that byte.
    ///
    /// # Errors
    /// The error of `write`.
    pub fn tagged<E>(
        &mut self,
        write: impl FnOnce(&mut Body<'a>) -> Result<u8, E>,
    ) -> Result<(), E> {
        let at = self.body.bytes.len();
        self.byte(0);
        let tag = write(&mut self.body)?;
        if let Some(byte) = self.body.bytes.get_mut(at) {
            *byte = tag;
        }
        Ok(())
    }

    /// Adds a field that `write` appends, after its length.
    ///
    /// # Errors
    /// The error of `write`.
    pub fn field<E>(
        &mut self,
        write: impl FnOnce(&mut Body<'a>) -> Result<(), E>,
    ) -> Result<&mut Self, E> {
        let (at, start) = (self.body.bytes.len(), self.body.len());
        self.word(0);
        write(&mut self.body)?;
        let length = (self.body.len() - start - 8) as u64;
        if let Some(head) = self.body.bytes.get_mut(at..at + 8) {
            head.copy_from_slice(&length.to_le_bytes());
        }
        Ok(self)
    }

    /// Adds the last field, which `write` appends.
    ///
    /// # Errors
    /// The error of `write`.
    pub fn last<E>(&mut self, write: impl FnOnce(&mut Body<'a>) -> Result<(), E>) -> Result<(), E> {
        write(&mut self.body)
    }

    /// Whether the payload gets memory of its own.
    #[must_use]
    pub fn is_big(&self) -> bool {
        self.body.len() >= MIN_MEMORY
    }

    /// Whether the other side would refuse the payload.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.body.len() > MAX_FRAME
    }

    /// Returns the payload alone.
    #[must_use]
    pub fn into_payload(mut self) -> Vec<u8> {
        self.body.flatten(0);
        self.body.bytes.split_off(HEAD)
    }

    /// Returns the frame, and leaves none behind. Copies the payload of a big one, which takes a while.
    pub fn finish(&mut self) -> Message {
        let is_big = self.is_big();
        let body = &mut self.body;
        if is_big && let Ok(memory) = memory::seal(&body.slices(HEAD)) {
            let (kind, payload) = body.bytes.split_at(HEAD);
            let mut frame = FrameWriter::new(MEMORY);
            frame
                .byte(kind[0])
                .rest(payload.get(..BEGIN).unwrap_or(payload));
            let descriptor = Some(memory);
            return Message {
                descriptor,
                ..frame.finish()
            };
        }
        body.flatten(0);
        let mut bytes = std::mem::take(&mut body.bytes);
        let length = (bytes.len() - HEAD) as u64;
        if let Some(head) = bytes.get_mut(1..HEAD) {
            head.copy_from_slice(&length.to_le_bytes()[..HEAD - 1]);
        }
        let descriptor = None;
        Message { bytes, descriptor }
    }
}

/// The fields of a payload that were not read yet. A method returns `None` if the payload is too short.
#[derive(Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.word()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Returns `Some` if nothing is left.
    #[must_use]
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
