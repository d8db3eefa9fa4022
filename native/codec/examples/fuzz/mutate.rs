//! Inputs for the fuzzer of the decoder: generated terms, and changes that may break a term.

/// Bytes of an input.
pub(crate) const MAX_SIZE: usize = 20_000;
/// Bytes that have a meaning, and numbers that are a bound.
const TAGS: &[u8] = &[
    70, 77, 80, 82, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110,
    111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 131, 0, 1, 2, 3, 8, 127, 128, 255,
];

/// xorshift64*
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // The state is never 0.
        Self(seed.wrapping_add(0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % bound.max(1)
    }
}

/// Adds a term that is well formed, but for keys that may be the same.
fn generate(random: &mut Random, depth: usize, out: &mut Vec<u8>) {
    let size = random.below(5);
    let count = size.to_le_bytes()[0];
    let kind = if depth == 0 { 3 } else { random.below(8) };
    let elements = match kind {
        0 => {
            out.extend([108, 0, 0, 0, count]);
            size
        }
        1 => {
            out.extend([104, count]);
            size
        }
        2 => {
            out.extend([116, 0, 0, 0, count]);
            2 * size
        }
        _ => return flat(random, out),
    };
    for _ in 0..elements {
        generate(random, depth - 1, out);
    }
    if kind == 0 {
        out.push(106);
    }
}

/// Adds a term without elements of any type.
fn flat(random: &mut Random, out: &mut Vec<u8>) {
    const ATOMS: [&str; 8] = ["a", "true", "nil", "undefined", "bytes", "view", "å", ""];
    let byte = random.next().to_le_bytes()[0];
    let size = random.below(5).to_le_bytes()[0];
    match random.below(9) {
        0 => out.extend([97, byte]),
        1 => out.extend([98, byte, size, byte, 0]),
        2 => {
            out.push(70);
            out.extend((f64::from(byte) / 4.0).to_be_bytes());
        }
        3 | 4 => {
            let name = ATOMS[random.below(ATOMS.len())];
            out.extend([119, name.len().to_le_bytes()[0]]);
            out.extend(name.as_bytes());
        }
        5 => {
            out.extend([110, 3 * size, byte & 1]);
            out.extend((0..3 * size).map(|_| random.next().to_le_bytes()[0]));
        }
        6 => {
            let high = if random.below(5) == 0 { 128 } else { 0 };
            out.extend([109, 0, 0, 0, size]);
            out.extend((0..size).map(|_| byte & 127 | high));
        }
        7 => {
            out.extend([107, 0, size]);
            out.extend((0..size).map(|_| byte));
        }
        _ => out.extend([88, 119, 1, b'n', 0, 0, 0, byte, 0, 0, 0, 1, 0, 0, 0, 2]),
    }
}

/// An input of the pool, or a new one, with up to three changes.
pub(crate) fn mutate(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = if random.below(3) == 0 {
        let mut input = vec![131];
        generate(random, 5, &mut input);
        input
    } else {
        pool[random.below(pool.len())].clone()
    };
    for _ in 0..random.below(4) {
        change(&mut input, pool, random);
    }
    input.truncate(MAX_SIZE);
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => {
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        3 => {
            let other = &pool[random.below(pool.len())];
            let from = 1 + random.below(other.len());
            let to = (from + random.below(64)).min(other.len());
            let part = other.get(from..to).unwrap_or_default().to_vec();
            input.splice(at..end, part);
        }
        4 => {
            let tag = TAGS[random.below(TAGS.len())];
            input.insert(at, tag);
        }
        5 => {
            // A length.
            let length = [0, 1, 255, 256, 65_535, 1 << 24, 1 << 31, u32::MAX];
            let length = length[random.below(length.len())].to_be_bytes();
            let end = (at + 4).min(input.len());
            input.splice(at..end, length);
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = match random.below(3) {
                    0 => TAGS[random.below(TAGS.len())],
                    1 => *byte ^ (1 << random.below(8)),
                    _ => random.next().to_le_bytes()[0],
                };
            }
        }
    }
}
