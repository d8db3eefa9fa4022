//! Frames: how a VM and a child process cut their sockets into messages. Used by the host in the VM and
//! by the one in the child, on any thread; needs no Python, and blocks on nothing but the `read` that a
//! caller of [`Inbox::receive`] passes.
//!
//! A frame is a word of eight bytes, little-endian, and a payload: the low byte of the word is the kind
//! of the frame, the others are the length of the payload. A payload is a row of fields without tags:
//! see [`crate::protocol`]. What comes from a child may be malformed: no length is believed before its
//! bytes have come.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use crate::memory::{self, Memory, Received};
use crate::protocol::MEMORY;

/// Bytes before the payload.
const HEAD: usize = 8;

/// Most bytes of a payload: a value of [`MAX_BYTES`](crate::MAX_BYTES), and room for its structure.
pub const MAX_FRAME: usize = 1 << 32;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// Most bytes that an empty inbox keeps.
const KEPT: usize = 1 << 20;

/// The size from which a payload is in memory of its own, of which a frame carries the descriptor, and from
/// which a binary is not copied into the frame before.
pub const MIN_MEMORY: usize = 1 << 17;

/// Bytes of the payload that a frame repeats which carries its memory: whom it is for.
const BEGIN: usize = 24;

/// A frame that is ready to be sent.
#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    /// What has to be sent with the first byte.
    pub descriptor: Option<OwnedFd>,
}

type Piece<'a> = Box<dyn AsRef<[u8]> + Send + 'a>;

/// Bytes that are appended, and big pieces between them, which stay where they are.
#[derive(Default)]
pub struct Body<'a> {
    pub(crate) bytes: Vec<u8>,
    /// The pieces, each with the index in `bytes` that it stands before.
    pieces: Vec<(usize, Piece<'a>)>,
}

impl<'a> Body<'a> {
    /// Appends a piece without a copy.
    pub fn share(&mut self, piece: impl AsRef<[u8]> + Send + 'a) {
        self.pieces.push((self.bytes.len(), Box::new(piece)));
    }

    /// Whether a piece was appended.
    pub(crate) fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn len(&self) -> usize {
        let pieces = self.pieces.iter();
        let shared: usize = pieces.map(|(_, piece)| (**piece).as_ref().len()).sum();
        self.bytes.len() + shared
    }

    /// Copies the pieces after an index into the bytes.
    pub(crate) fn flatten(&mut self, from: usize) {
        let first = self.pieces.partition_point(|(at, _)| *at < from);
        if first == self.pieces.len() {
            return;
        }
        let mut flat = Vec::with_capacity(self.len());
        let mut start = 0;
        for (at, piece) in self.pieces.drain(first..) {
            flat.extend_from_slice(self.bytes.get(start..at).unwrap_or_default());
            flat.extend_from_slice((*piece).as_ref());
            start = at;
        }
        flat.extend_from_slice(self.bytes.get(start..).unwrap_or_default());
        self.bytes = flat;
    }

    /// Returns the bytes after an index, and the pieces between them.
    fn slices(&self, from: usize) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(2 * self.pieces.len() + 1);
        let mut start = from;
        for (at, piece) in &self.pieces {
            slices.push(self.bytes.get(start..*at).unwrap_or_default());
            slices.push((**piece).as_ref());
            start = *at;
        }
        slices.push(self.bytes.get(start..).unwrap_or_default());
        slices
    }
}

/// Builds one frame.
pub struct FrameWriter<'a> {
    body: Body<'a>,
}

impl<'a> FrameWriter<'a> {
    #[must_use]
    pub fn new(kind: u8) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(u64::from(kind).to_le_bytes());
        let pieces = Vec::new();
        Self {
            body: Body { bytes, pieces },
        }
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

/// What has come as the payload of a frame.
#[derive(Debug)]
pub enum Payload<'a> {
    Bytes(&'a [u8]),
    Memory(Memory),
    /// The memory of the payload was lost, since this process may have no more descriptors. The payload
    /// begins with these bytes, at most [`BEGIN`].
    Lost(&'a [u8]),
}

/// The bytes that a socket has brought, and that were not taken as frames.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
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
            Some(memory) => Payload::Memory(Memory::open(&memory, MAX_FRAME).map_err(|_| Broken)?),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(inbox: &mut Inbox, bytes: &[u8]) {
        let copy = |room: &mut [u8]| {
            room[..bytes.len()].copy_from_slice(bytes);
            let (count, descriptor) = (bytes.len(), None);
            Ok(Received { count, descriptor })
        };
        assert_eq!(inbox.receive(copy).unwrap(), bytes.len());
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_is_taken_once() {
        let mut frame = FrameWriter::new(7);
        frame.byte(1).word(2).bytes(b"three").rest(b"four");
        let frame = frame.finish().bytes;
        let mut inbox = Inbox::default();
        for (index, byte) in frame.iter().enumerate() {
            assert!(matches!(inbox.next_frame(), Ok(None)), "{index}");
            feed(&mut inbox, &[*byte]);
        }
        let (kind, Payload::Bytes(payload)) = inbox.next_frame().unwrap().unwrap() else {
            panic!("not in the socket");
        };
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
            feed(&mut inbox, &frame.finish().bytes);
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
        assert!(matches!(inbox.next_frame(), Ok(None)));
        assert!(inbox.bytes.len() <= 2 * CHUNK);
        let mut inbox = Inbox::default();
        feed(&mut inbox, &(1_u64 << 60).to_le_bytes());
        assert!(matches!(inbox.next_frame(), Err(Broken)));
        let mut fields = Fields::new(&[255; 9]);
        assert_eq!(fields.bytes(), None);
    }

    #[test]
    fn a_field_has_its_length_before_it() {
        let mut frame = FrameWriter::new(1);
        let write = |body: &mut Body<'_>| {
            body.bytes.extend(b"abc");
            Ok::<_, ()>(())
        };
        frame.field(write).unwrap().byte(9);
        let frame = frame.finish().bytes;
        let mut fields = Fields::new(&frame[HEAD..]);
        assert_eq!(fields.bytes(), Some(&b"abc"[..]));
        assert_eq!(fields.byte(), Some(9));
    }

    /// Returns a frame of the kind 9, whose field is `abc`, the big piece, and `d`.
    fn big(piece: &[u8]) -> Message {
        let mut frame = FrameWriter::new(9);
        frame.word(7);
        let write = |body: &mut Body<'_>| {
            body.bytes.extend(b"abc");
            body.share(piece.to_vec());
            body.bytes.extend(b"d");
            Ok::<_, ()>(())
        };
        frame.field(write).unwrap().byte(1);
        frame.finish()
    }

    fn pass(inbox: &mut Inbox, message: Message) {
        let read = |room: &mut [u8]| {
            room[..message.bytes.len()].copy_from_slice(&message.bytes);
            let descriptor = message.descriptor.map(Some);
            let count = message.bytes.len();
            Ok(Received { count, descriptor })
        };
        inbox.receive(read).unwrap();
    }

    #[test]
    fn a_big_payload_is_in_memory() {
        for length in [1, MIN_MEMORY, 1 << 20] {
            let piece = vec![5; length];
            let message = big(&piece);
            assert_eq!(message.descriptor.is_some(), length >= MIN_MEMORY);
            let mut inbox = Inbox::default();
            pass(&mut inbox, message);
            let (kind, payload) = inbox.next_frame().unwrap().unwrap();
            let payload = match &payload {
                Payload::Bytes(bytes) => bytes,
                Payload::Memory(memory) => &**memory,
                Payload::Lost(_) => panic!("lost"),
            };
            let mut fields = Fields::new(payload);
            assert_eq!((kind, fields.word()), (9, Some(7)));
            assert_eq!(
                fields.bytes(),
                Some(&[b"abc", &piece[..], b"d"].concat()[..])
            );
            assert_eq!((fields.byte(), fields.end()), (Some(1), Some(())));
        }
    }

    #[test]
    fn memory_that_was_lost_names_the_job() {
        let mut inbox = Inbox::default();
        let Message { bytes, .. } = big(&[0; MIN_MEMORY]);
        let read = |room: &mut [u8]| {
            room[..bytes.len()].copy_from_slice(&bytes);
            let (count, descriptor) = (bytes.len(), Some(None));
            Ok(Received { count, descriptor })
        };
        inbox.receive(read).unwrap();
        let lost = inbox.next_frame().unwrap().unwrap();
        assert!(
            matches!(lost, (9, Payload::Lost(begin)) if begin.starts_with(&7_u64.to_le_bytes()))
        );
    }

    #[test]
    fn a_descriptor_and_a_frame_belong_together() {
        let message = || big(&[0; MIN_MEMORY]);
        let small = || FrameWriter::new(1).finish();
        // Memory that is announced and does not come.
        let mut inbox = Inbox::default();
        feed(&mut inbox, &message().bytes);
        assert!(inbox.next_frame().is_err());
        // A descriptor with another frame.
        let mut inbox = Inbox::default();
        let bytes = small().bytes;
        let descriptor = message().descriptor;
        pass(&mut inbox, Message { bytes, descriptor });
        assert!(inbox.next_frame().unwrap().is_some());
        assert!(inbox.next_frame().is_err());
        // Two descriptors before the end of a frame.
        let mut inbox = Inbox::default();
        for bytes in [vec![9], vec![0]] {
            let descriptor = message().descriptor;
            pass(&mut inbox, Message { bytes, descriptor });
        }
        assert!(inbox.next_frame().is_err());
        // A frame within memory is no frame.
        let mut inbox = Inbox::default();
        feed(&mut inbox, &[MEMORY, 0, 0, 0, 0, 0, 0, 0]);
        assert!(inbox.next_frame().is_err());
    }

    #[test]
    fn pieces_are_copied_where_their_bytes_are_needed() {
        let mut body = Body::default();
        for (before, piece) in [("a", "BC"), ("d", "EF"), ("g", "HI")] {
            body.bytes.extend(before.as_bytes());
            body.share(piece.as_bytes());
        }
        body.bytes.extend(b"j");
        body.flatten(2);
        assert_eq!(body.slices(0), [&b"a"[..], b"BC", b"dEFgHIj"]);
        body.flatten(0);
        assert_eq!(body.slices(1), [b"BCdEFgHIj"]);
    }
}
