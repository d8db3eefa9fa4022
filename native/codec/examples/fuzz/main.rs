//! Fuzzes the decoder of the external term format, and then the frames of a child: `fuzz SECONDS SEED CORPUS
//! OUT`, or `fuzz FILE` for one input, whose name ends with `.etf` or `.frames`. Run by `scripts/fuzz`, on
//! one thread, with a real Python and no BEAM.
//!
//! An input of the decoder is one of the corpus, one that has been decoded before, or a generated term, with
//! some mutations; for frames see [`frames`]. A finding is a crash, a panic, a value that does not come back as itself, or an error that no
//! input may have. The input at hand is in `OUT/current.etf`, so that a crash leaves it behind.

mod frames;
mod mutate;

use py_codec::etf::{Decoder, Encoder, decode};
use py_codec::{Error, Stop, read_arguments, read_kwargs, write};
use pyo3::prelude::*;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use mutate::{MAX_SIZE, Random, mutate};

/// Inputs that are kept to be mutated again.
const MAX_POOL: usize = 4_000;

fn main() -> ExitCode {
    match run() {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            eprintln!("{finding}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    Python::initialize();
    match &arguments[..] {
        [file] => {
            let input = fs::read(file).map_err(|error| error.to_string())?;
            if file.ends_with(".frames") {
                frames::check(&input)?;
            } else {
                Python::attach(|py| check(py, &input, &mut Counts::default()))?;
            }
            Ok("nothing found".to_owned())
        }
        [seconds, seed, corpus, out] => {
            let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
            let (seconds, seed) = (number(seconds)?, number(seed)?);
            let (corpus, out) = (corpus.as_ref(), out.as_ref());
            let half = Duration::from_secs(seconds) / 2;
            let decoder = fuzz(half, seed, corpus, out)?;
            let frames = fuzz_frames(half, seed, corpus, out)?;
            Ok(format!("{decoder}\n{frames}"))
        }
        _ => Err("usage: fuzz SECONDS SEED CORPUS OUT, or fuzz FILE".to_owned()),
    }
}

fn fuzz_frames(time: Duration, seed: u64, corpus: &Path, out: &Path) -> Result<String, String> {
    let pool = load(corpus).map_err(|error| error.to_string())?;
    let current = out.join("current.frames");
    let deadline = Instant::now() + time;
    let mut random = Random::new(seed);
    let (mut inputs, mut taken, mut terms) = (0_u64, 0, 0);
    while Instant::now() < deadline {
        let input = frames::generate(&pool, &mut random);
        fs::write(&current, &input).map_err(|error| error.to_string())?;
        let found = frames::check(&input).map_err(|finding| {
            let name = format!("frames-{seed}.frames");
            keep(&input, &out.join(name), &finding)
        })?;
        inputs += 1;
        taken += found.0;
        terms += found.1;
    }
    let _: std::io::Result<()> = fs::remove_file(&current);
    Ok(format!(
        "frames: {inputs} inputs, {taken} frames in them, {terms} terms in these: nothing found"
    ))
}

fn fuzz(time: Duration, seed: u64, corpus: &Path, out: &Path) -> Result<String, String> {
    let mut pool = load(corpus).map_err(|error| error.to_string())?;
    let current = out.join("current.etf");
    let deadline = Instant::now() + time;
    let mut random = Random::new(seed);
    let mut counts = Counts::default();
    while Instant::now() < deadline {
        let input = mutate(&pool, &mut random);
        fs::write(&current, &input).map_err(|error| error.to_string())?;
        let is_kept = Python::attach(|py| check(py, &input, &mut counts)).map_err(|finding| {
            let name = format!("decoder-{seed}.etf");
            keep(&input, &out.join(name), &finding)
        })?;
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

fn keep(input: &[u8], path: &Path, finding: &str) -> String {
    match fs::write(path, input) {
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
    // Only for a crash: the rest of these is that of `decode`.
    if let Ok(mut decoder) = Decoder::new(input) {
        drop(read_arguments(py, &mut decoder, &|| false));
    }
    if let Ok(mut decoder) = Decoder::new(input) {
        drop(read_kwargs(py, &mut decoder, &|| false));
    }
    let is_kept = match decode(py, input, &|| false) {
        Ok(object) => {
            counts.terms += 1;
            counts.written += u64::from(comes_back(py, &object)?);
            true
        }
        Err(Error::Malformed { at, .. }) if at > input.len() => {
            return Err(format!("an error at byte {at} of {}", input.len()));
        }
        Err(Error::Malformed { .. }) => false,
        Err(Error::Unconvertible(_)) => true,
        Err(Error::Interrupted) => return Err("interrupted".to_owned()),
        Err(Error::Python(error)) => return Err(format!("an exception: {error}")),
    };
    if started.elapsed() > Duration::from_secs(5) {
        return Err("it takes more than 5 seconds".to_owned());
    }
    Ok(is_kept)
}

/// Whether the object can be written; the error is that it comes back as another.
fn comes_back(py: Python<'_>, object: &Bound<'_, PyAny>) -> Result<bool, String> {
    let mut encoder = Encoder::new(usize::MAX);
    match write(object, &mut encoder, &|| false) {
        Ok(()) => {}
        // A text that was bytes, or a view of them, may be another key as well.
        Err(Stop::Failed(error)) if matches!(*error, Error::Unconvertible(_)) => return Ok(false),
        Err(stop) => return Err(format!("does not go back: {stop:?}")),
    }
    let again = decode(py, &encoder.into_bytes(), &|| false);
    let again = again.map_err(|error| format!("does not come back: {error}"))?;
    if forms(&again)? != forms(object)? {
        return Err(format!("{object:?} comes back as {again:?}"));
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
