//! Tests of frames, as they are written and as they come.

use super::body::Body;
use super::inbox::CHUNK;
use super::*;
use crate::memory::Received;

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
    assert!(matches!(lost, (9, Payload::Lost(begin)) if begin.starts_with(&7_u64.to_le_bytes())));
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
