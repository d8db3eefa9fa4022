//! Fuzzes the decoder of the external term format: `fuzz SECONDS SEED CORPUS OUT`, or `fuzz FILE`
//! for one input. Run by `scripts/fuzz`, on one thread, with a real Python and no BEAM.
//!
//! Each input is one of the corpus with some mutations, or one that has been decoded before. A
//! finding is a crash, a panic, a value that does not come back as itself, or an error that no
//! input may have. The input at hand is in `OUT/current.etf`, so that a crash leaves it behind.

use py_codec::etf::{Decoder, Encoder, decode};
use py_codec::{Error, Stop, read_arguments, read_kwargs, write};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

/// Inputs that are kept to be mutated again.
const MAX_POOL: usize = 4_000;
/// Bytes of an input.
const MAX_SIZE: usize = 20_000;
/// Bytes that have a meaning, and numbers that are a bound.
const TAGS: &[u8] = &[
    70, 77, 80, 82, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110,
    111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 131, 0, 1, 2, 3, 8, 127, 128, 255,
];

fn main() -> ExitCode {
    match run() {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            eprintln!("the decoder: {finding}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    Python::initialize();
    let [seconds, seed, corpus, out] = &arguments[..] else {
        let [file] = &arguments[..] else {
            return Err("usage: fuzz SECONDS SEED CORPUS OUT, or fuzz FILE".to_owned());
        };
        let input = fs::read(file).map_err(|error| error.to_string())?;
        Python::attach(|py| check(py, &input, &mut Counts::default()))?;
        return Ok("nothing found".to_owned());
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text} is no number"))
    };
    let (seconds, seed) = (number(seconds)?, number(seed)?);
    let mut pool = load(Path::new(corpus)).map_err(|error| error.to_string())?;
    let current = Path::new(out).join("current.etf");
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut counts = Counts::default();
    while Instant::now() < deadline {
        let input = mutate(&pool, &mut random);
        fs::write(&current, &input).map_err(|error| error.to_string())?;
        let is_kept = Python::attach(|py| check(py, &input, &mut counts))
            .map_err(|finding| keep(&input, seed, Path::new(out), &finding))?;
        if is_kept && random.below(8) == 0 {
            if pool.len() < MAX_POOL {
                pool.push(input);
            } else {
                let place = random.below(pool.len());
                pool[place] = input;
            }
        }
    }
    let _: std::io::Result<()> = fs::remove_file(&current);
    let Counts {
        inputs,
        terms,
        written,
    } = counts;
    Ok(format!(
        "decoder: {inputs} inputs, {terms} of them terms, {written} of these came back: nothing found"
    ))
}

fn load(corpus: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(corpus)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "etf") {
            let input = fs::read(path)?;
            if (1..MAX_SIZE).contains(&input.len()) {
                inputs.push(input);
            }
        }
    }
    inputs.sort_unstable();
    Ok(inputs)
}

fn keep(input: &[u8], seed: u64, out: &Path, finding: &str) -> String {
    let path: PathBuf = out.join(format!("decoder-{seed}.etf"));
    match fs::write(&path, input) {
        Ok(()) => format!("{finding}; the input is in {}", path.display()),
        Err(error) => format!("{finding}; the input could not be kept: {error}"),
    }
}

#[derive(Default)]
struct Counts {
    inputs: u64,
    terms: u64,
    written: u64,
}

/// `true` for an input that is worth another mutation; the error is a finding.
fn check(py: Python<'_>, input: &[u8], counts: &mut Counts) -> Result<bool, String> {
    counts.inputs += 1;
    let started = Instant::now();
    // What they make of it is of no interest: they share the rest.
    if let Ok(mut decoder) = Decoder::new(input) {
        drop(read_arguments(py, &mut decoder, &|| false));
    }
    if let Ok(mut decoder) = Decoder::new(input) {
        drop(read_kwargs(py, &mut decoder, &|| false));
    }
    let object = match decode(py, input, &|| false) {
        Ok(object) => object,
        Err(Error::Malformed { at, .. }) if at > input.len() => {
            return Err(format!("an error at byte {at} of {}", input.len()));
        }
        Err(Error::Malformed { .. }) => return Ok(false),
        Err(Error::Unconvertible(_)) => return Ok(true),
        Err(Error::Interrupted) => return Err("interrupted".to_owned()),
        Err(Error::Python(error)) => return Err(format!("an exception: {error}")),
    };
    counts.terms += 1;
    let mut encoder = Encoder::new(usize::MAX);
    match write(&object, &mut encoder, &|| false) {
        Ok(()) => {}
        // A text that was bytes, or a view of them, may be another key as well.
        Err(Stop::Failed(error)) if matches!(*error, Error::Unconvertible(_)) => return Ok(true),
        Err(stop) => return Err(format!("does not go back: {stop:?}")),
    }
    let bytes = encoder.into_bytes();
    let again =
        decode(py, &bytes, &|| false).map_err(|error| format!("does not come back: {error}"))?;
    counts.written += 1;
    if forms(&again)? != forms(&object)? {
        return Err(format!("{object:?} comes back as {again:?}"));
    }
    if started.elapsed() > Duration::from_secs(5) {
        return Err("it takes more than 5 seconds".to_owned());
    }
    Ok(true)
}

/// A value as text, in which `bytes` and `str`, and views of them, are the same if their bytes are.
fn forms(object: &Bound<'_, PyAny>) -> Result<String, String> {
    let text = object.py().import("builtins").and_then(|builtins| {
        let globals = pyo3::types::PyDict::new(object.py());
        globals.set_item("__builtins__", builtins)?;
        object.py().run(FORMS, Some(&globals), None)?;
        let form = globals.get_item("form")?;
        form.map_or_else(
            || Ok(String::new()),
            |form| form.call1((object,))?.extract(),
        )
    });
    text.map_err(|error| format!("has no text: {error}"))
}

const FORMS: &std::ffi::CStr = c"
def form(x):
    if isinstance(x, str): return repr(x.encode())
    if isinstance(x, memoryview): return repr(bytes(x))
    if isinstance(x, (list, tuple)): return type(x).__name__ + '[' + ','.join(map(form, x)) + ']'
    if isinstance(x, dict):
        return '{' + ','.join(sorted(form(k) + ':' + form(v) for k, v in x.items())) + '}'
    return repr(x)
import sys
sys.setrecursionlimit(10000)
";

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % bound.max(1)
    }
}

/// Adds a term that is well formed, but for keys that may be the same.
fn generate(random: &mut Random, depth: usize, out: &mut Vec<u8>) {
    const ATOMS: [&str; 8] = ["a", "true", "nil", "undefined", "bytes", "view", "å", ""];
    let byte = random.next().to_le_bytes()[0];
    let size = random.below(5);
    let count = size.to_le_bytes()[0];
    match random.below(if depth == 0 { 9 } else { 14 }) {
        0 => out.extend([97, byte]),
        1 => out.extend([98, byte, count, byte, 0]),
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
            let size = count.saturating_mul(3);
            out.extend([110, size, byte & 1]);
            out.extend((0..size).map(|_| random.next().to_le_bytes()[0]));
        }
        6 => {
            out.extend([109, 0, 0, 0, count]);
            let high = if random.below(5) == 0 { 128 } else { 0 };
            out.extend((0..size).map(|_| byte & 127 | high));
        }
        7 => {
            out.extend([107, 0, count]);
            out.extend((0..size).map(|_| byte));
        }
        8 => out.extend([88, 119, 1, b'n', 0, 0, 0, byte, 0, 0, 0, 1, 0, 0, 0, 2]),
        9 | 10 => {
            out.extend([108, 0, 0, 0, count]);
            (0..size).for_each(|_| generate(random, depth - 1, out));
            out.push(106);
        }
        11 | 12 => {
            out.extend([104, count]);
            (0..size).for_each(|_| generate(random, depth - 1, out));
        }
        _ => {
            out.extend([116, 0, 0, 0, count]);
            (0..2 * size).for_each(|_| generate(random, depth - 1, out));
        }
    }
}

fn mutate(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = if random.below(3) == 0 {
        let mut input = vec![131];
        generate(random, 5, &mut input);
        input
    } else {
        pool[random.below(pool.len())].clone()
    };
    for _ in 0..random.below(4) {
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
    input.truncate(MAX_SIZE);
    input
}
