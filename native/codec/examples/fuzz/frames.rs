//! Fuzzes what a VM reads from a child: the frames, their fields, and the terms in them as parts.
//!
//! An input is the bytes of a socket: frames around terms of the decoder's fuzzer, with some mutations. They
//! come in pieces whose sizes follow from the input alone, so that a file repeats a finding. A finding is a
//! crash, a panic, memory without a descriptor, parts that differ from a skip over the term, or frames that
//! depend on how the bytes were cut.

use py_codec::MAX_DEPTH;
use py_codec::etf::{Part, Parts, is_whole};
use py_codec::frame::{Fields, FrameWriter, Inbox, Payload};
use py_codec::memory::Received;
use py_codec::protocol::MEMORY;

use crate::mutate::{Random, mutate};

/// Returns the bytes of some frames, most of them whole.
pub(crate) fn generate(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..=random.below(6) {
        let kind = random.below(14).to_le_bytes()[0];
        let mut frame = FrameWriter::new(if kind == 13 { MEMORY } else { kind });
        for _ in 0..random.below(5) {
            match random.below(4) {
                0 => frame.byte(random.below(12).to_le_bytes()[0]),
                1 => frame.word(random.below(1 << 20) as u64),
                2 => frame.bytes(&mutate(pool, random)),
                _ => frame.word(u64::MAX - random.below(9) as u64),
            };
        }
        frame.rest(&mutate(pool, random));
        stream.extend(frame.finish().bytes);
    }
    for _ in 0..random.below(4) {
        let at = random.below(stream.len());
        if let Some(byte) = stream.get_mut(at) {
            *byte = random.below(256).to_le_bytes()[0];
        }
    }
    if random.below(4) == 0 {
        stream.truncate(random.below(stream.len()));
    }
    stream
}

/// The kinds and the payloads of the frames of an input, and whether a broken rule has ended it.
type Taken = (Vec<(u8, Vec<u8>)>, bool);

/// Returns the number of frames that an input has, and of those that are whole terms from some field on; the
/// error is a finding.
pub(crate) fn check(input: &[u8]) -> Result<(u64, u64), String> {
    let seed = input.iter().fold(7_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    let whole = take(input, &mut |_| input.len())?;
    let mut random = Random::new(seed);
    let cut = take(input, &mut |_| 1 + random.below(40))?;
    if whole != cut {
        return Err("the frames depend on how the bytes are cut".to_owned());
    }
    let mut terms = 0;
    for (_, payload) in &whole.0 {
        // Every field of a payload may be read as any other.
        let mut fields = Fields::new(payload);
        while fields.end().is_none() {
            let (mut rest, mut field) = (fields, fields);
            terms += u64::from(term(rest.rest())?);
            terms += u64::from(term(field.bytes().unwrap_or_default())?);
            fields.byte();
        }
    }
    Ok((whole.0.len() as u64, terms))
}

fn take(input: &[u8], size: &mut dyn FnMut(usize) -> usize) -> Result<Taken, String> {
    let (mut inbox, mut frames, mut rest) = (Inbox::default(), Vec::new(), input);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(size(rest.len()).min(rest.len()));
        rest = after;
        let mut piece = piece;
        while !piece.is_empty() {
            let read = |room: &mut [u8]| {
                let count = piece.len().min(room.len());
                room[..count].copy_from_slice(&piece[..count]);
                let descriptor = None;
                Ok(Received { count, descriptor })
            };
            let count = inbox.receive(read).map_err(|error| error.to_string())?;
            piece = &piece[count..];
        }
        loop {
            match inbox.next_frame() {
                Ok(Some((kind, Payload::Bytes(payload)))) => frames.push((kind, payload.to_vec())),
                Ok(Some(_)) => return Err("memory without a descriptor".to_owned()),
                Ok(None) => break,
                Err(_) => return Ok((frames, true)),
            }
        }
    }
    Ok((frames, false))
}

/// Whether the bytes are one term, as the parts of it say; the error is that a skip says otherwise.
fn term(bytes: &[u8]) -> Result<bool, String> {
    let (is_one, has_objects) = walk(bytes);
    if is_one && !has_objects && !is_whole(bytes) {
        return Err("parts that are a term, where a skip finds none".to_owned());
    }
    Ok(is_one)
}

/// Takes the parts of a term as the VM does: whether they are one, and whether there are objects in it.
fn walk(bytes: &[u8]) -> (bool, bool) {
    let mut has_objects = false;
    let Ok(mut parts) = Parts::new(bytes) else {
        return (false, false);
    };
    let mut open = vec![1_usize];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let elements = match parts.take() {
            Ok(Part::List(length)) => length.saturating_add(1),
            Ok(Part::Tuple(arity)) => arity,
            Ok(Part::Map(size)) => size.saturating_mul(2),
            Ok(Part::Object(_)) => {
                has_objects = true;
                0
            }
            Ok(_) => 0,
            Err(_) => return (false, has_objects),
        };
        if elements > bytes.len() || open.len() > MAX_DEPTH {
            return (false, has_objects);
        }
        open.push(elements);
    }
    (parts.finish().is_ok(), has_objects)
}
