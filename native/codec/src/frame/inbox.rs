//! The bytes that a socket brings, cut into frames. Those, and the descriptors, may be hostile.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use super::{HEAD, MAX_FRAME, MIN_MEMORY};
use crate::memory::Memory;
pub(super) use crate::memory::Received;
use crate::protocol::MEMORY;

/// Bytes that are read at once.
pub(super) const CHUNK: usize = 1 << 16;

/// Most bytes that an empty inbox keeps.
const KEPT: usize = 1 << 20;

/// The payload of a frame that has come.
#[derive(Debug)]
pub enum Payload<'a> {
    Bytes(&'a [u8]),
    Memory(Memory),
    /// The memory of the payload was lost, since this process has no room or no descriptor for it. The payload
    /// begins with these bytes, at most 24.
    Lost(&'a [u8]),
}

/// The bytes that a socket has brought, and that were not taken as frames.
#[derive(Default)]
pub struct Inbox {
    pub(super) bytes: Vec<u8>,
    /// The index of the first byte that was not taken.
    start: usize,
    /// The index after the last byte that has come.
    end: usize,
    /// The descriptors that have come, and that no frame has taken; `None` for one that was lost.
    descriptors: VecDeque<Option<OwnedFd>>,
}

/// The other process breaks the rules: a frame is longer than [`MAX_FRAME`], a descriptor has come without
/// a frame, or the other way round, or is not one of sealed memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Inbox {
    /// Calls `read` once with room for bytes, and returns how many have come. The buffer grows with the
    /// bytes that have come, not with a length that a frame has claimed.
    ///
    /// # Errors
    /// The error of `read`.
    pub fn receive(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<Received>,
    ) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEPT {
                self.bytes = Vec::new();
            }
        } else if self.start >= CHUNK && self.start >= self.end - self.start {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < CHUNK {
            let grown = self.end + CHUNK.max(self.end - self.start);
            self.bytes.resize(grown, 0);
        }
        let received = read(self.bytes.get_mut(self.end..).unwrap_or_default())?;
        self.end += received.count;
        self.descriptors.extend(received.descriptor);
        Ok(received.count)
    }

    /// Takes the next frame, if all of it has come: its kind, and its payload.
    ///
    /// # Errors
    /// The other process breaks the rules.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Payload<'_>)>, Broken> {
        let come = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((head, rest)) = come.split_first_chunk::<HEAD>() else {
            // A frame comes with at most one descriptor, and all whole frames were taken.
            let allowed = usize::from(!come.is_empty());
            return self.nothing(allowed);
        };
        let word = u64::from_le_bytes(*head);
        let (kind, length) = (head[0], usize::try_from(word >> 8).map_err(|_| Broken)?);
        if length > MAX_FRAME {
            return Err(Broken);
        }
        let Some(payload) = rest.get(..length) else {
            return self.nothing(1);
        };
        self.start += HEAD + length;
        if kind != MEMORY {
            return Ok(Some((kind, Payload::Bytes(payload))));
        }
        let (kind, begin) = payload.split_first().ok_or(Broken)?;
        let payload = match self.descriptors.pop_front().ok_or(Broken)? {
            Some(memory) => {
                match Memory::open(&memory, MIN_MEMORY - HEAD, MAX_FRAME).map_err(|_| Broken)? {
                    Some(memory) => Payload::Memory(memory),
                    None => Payload::Lost(begin),
                }
            }
            None => Payload::Lost(begin),
        };
        Ok(Some((*kind, payload)))
    }

    /// Returns that there is no whole frame, if no more descriptors have come than are `allowed`.
    fn nothing(&self, allowed: usize) -> Result<Option<(u8, Payload<'_>)>, Broken> {
        (self.descriptors.len() <= allowed)
            .then_some(None)
            .ok_or(Broken)
    }

    /// Whether a byte has come that no frame was taken from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}
