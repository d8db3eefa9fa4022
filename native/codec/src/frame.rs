//! Frames: how a VM and a child process cut their sockets into messages. Used by the host in the VM and
//! by the one in the child, on any thread; needs no Python, and blocks on nothing but the `read` that a
//! caller of [`Inbox::receive`] passes.
//!
//! A frame is a word of eight bytes, little-endian, and a payload: the low byte of the word is the kind
//! of the frame, the others are the length of the payload. A payload is a row of fields without tags:
//! see [`crate::protocol`]. What comes from a child may be malformed: no length is believed before its
//! bytes have come.

use std::io;

/// Bytes before the payload.
const HEAD: usize = 8;

/// Most bytes of a payload: a value of [`MAX_BYTES`](crate::MAX_BYTES), and room for its structure.
pub const MAX_FRAME: usize = 1 << 32;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// Most bytes that an empty inbox keeps.
const KEPT: usize = 1 << 20;

/// Builds one frame.
pub struct FrameWriter {
    bytes: Vec<u8>,
}

impl FrameWriter {
    #[must_use]
    pub fn new(kind: u8) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(u64::from(kind).to_le_bytes());
        Self { bytes }
    }

    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub fn word(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds bytes, after their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.word(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// Adds bytes without their length: the last field of a payload.
    pub fn rest(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// Returns the buffer, to which a field may be appended in place.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a field that `write` appends, after its length.
    ///
    /// # Errors
    /// The error of `write`.
    pub fn field<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<&mut Self, E> {
        let start = self.bytes.len();
        self.word(0);
        write(&mut self.bytes)?;
        let length = (self.bytes.len() - start - 8) as u64;
        if let Some(head) = self.bytes.get_mut(start..start + 8) {
            head.copy_from_slice(&length.to_le_bytes());
        }
        Ok(self)
    }

    /// Returns the whole frame.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() - HEAD) as u64;
        if let Some(head) = self.bytes.get_mut(1..HEAD) {
            head.copy_from_slice(&length.to_le_bytes()[..HEAD - 1]);
        }
        self.bytes
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

/// The bytes that a socket has brought, and that were not taken as frames.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// The index of the first byte that was not taken.
    start: usize,
    /// The index after the last byte that has come.
    end: usize,
}

/// A frame is longer than [`MAX_FRAME`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Inbox {
    /// Calls `read` once with room for bytes, and returns how many have come. The buffer grows with the
    /// bytes that have come, not with a length that a frame has claimed.
    ///
    /// # Errors
    /// The error of `read`.
    pub fn receive(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
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
        let count = read(self.bytes.get_mut(self.end..).unwrap_or_default())?;
        self.end += count;
        Ok(count)
    }

    /// Takes the next frame, if all of it has come: its kind, and its payload.
    ///
    /// # Errors
    /// The frame is too long.
    pub fn next_frame(&mut self) -> Result<Option<(u8, &[u8])>, TooLong> {
        let come = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((head, rest)) = come.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let word = u64::from_le_bytes(*head);
        let (kind, length) = (head[0], usize::try_from(word >> 8).map_err(|_| TooLong)?);
        if length > MAX_FRAME {
            return Err(TooLong);
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        self.start += HEAD + length;
        Ok(Some((kind, payload)))
    }

    /// Whether a byte has come that no frame was taken from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(inbox: &mut Inbox, bytes: &[u8]) {
        let copy = |room: &mut [u8]| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        };
        assert_eq!(inbox.receive(copy).unwrap(), bytes.len());
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_is_taken_once() {
        let mut frame = FrameWriter::new(7);
        frame.byte(1).word(2).bytes(b"three").rest(b"four");
        let frame = frame.finish();
        let mut inbox = Inbox::default();
        for (index, byte) in frame.iter().enumerate() {
            assert_eq!(inbox.next_frame(), Ok(None), "{index}");
            feed(&mut inbox, &[*byte]);
        }
        let (kind, payload) = inbox.next_frame().unwrap().unwrap();
        let mut fields = Fields::new(payload);
        assert_eq!(kind, 7);
        assert_eq!(fields.byte(), Some(1));
        assert_eq!(fields.word(), Some(2));
        assert_eq!(fields.text(), Some("three"));
        assert_eq!(fields.rest(), b"four");
        assert_eq!((fields.byte(), fields.end()), (None, Some(())));
        assert!(inbox.is_empty());
    }

    #[test]
    fn many_frames_pass_through_a_small_buffer() {
        let mut inbox = Inbox::default();
        for round in 0..10_000_u64 {
            let mut frame = FrameWriter::new(1);
            frame.word(round).rest(&[0; 100]);
            feed(&mut inbox, &frame.finish());
            if round % 3 == 2 {
                for _ in 0..3 {
                    assert!(inbox.next_frame().unwrap().is_some());
                }
            }
        }
        assert!(inbox.bytes.len() <= 3 * CHUNK);
    }

    #[test]
    fn a_length_is_not_believed() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &((1_u64 << 40) | 1).to_le_bytes());
        assert_eq!(inbox.next_frame(), Ok(None));
        assert!(inbox.bytes.len() <= 2 * CHUNK);
        let mut inbox = Inbox::default();
        feed(&mut inbox, &(1_u64 << 60).to_le_bytes());
        assert_eq!(inbox.next_frame(), Err(TooLong));
        let mut fields = Fields::new(&[255; 9]);
        assert_eq!(fields.bytes(), None);
    }

    #[test]
    fn a_field_has_its_length_before_it() {
        let mut frame = FrameWriter::new(1);
        let write = |buffer: &mut Vec<u8>| {
            buffer.extend(b"abc");
            Ok::<_, ()>(())
        };
        frame.field(write).unwrap().byte(9);
        let frame = frame.finish();
        let mut fields = Fields::new(&frame[HEAD..]);
        assert_eq!(fields.bytes(), Some(&b"abc"[..]));
        assert_eq!(fields.byte(), Some(9));
    }
}
