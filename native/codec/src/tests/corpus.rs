//! Tests of the pinned inputs of `corpus/`, each with its outcome: see `corpus/make.escript`.

use pyo3::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

use super::{attached, decoded, encode, repr};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn outcomes() -> Vec<(String, String)> {
    let text = fs::read_to_string(directory().join("outcomes.txt")).unwrap();
    let line = |line: &str| {
        let (name, outcome) = line.split_once(' ').unwrap();
        (name.to_owned(), outcome.to_owned())
    };
    text.lines().map(line).collect()
}

fn input(name: &str) -> Vec<u8> {
    fs::read(directory().join(format!("{name}.etf"))).unwrap()
}

#[test]
fn each_input_has_its_outcome() {
    attached(|py| {
        let mut wrong = Vec::new();
        let outcomes = outcomes();
        assert!(outcomes.len() > 100);
        for (name, expected) in outcomes {
            let found = match decoded(py, &input(&name)) {
                Ok(object) => repr(&object),
                Err(error) => format!("error: {error}"),
            };
            if found != expected {
                wrong.push(format!("{name}: {found}\n    instead of {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn each_input_has_an_outcome_written_down() {
    let mut files: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.to_owned()))
        .filter_map(|name| Some(name.strip_suffix(".etf")?.to_owned()))
        .collect();
    files.sort_unstable();
    let mut names: Vec<_> = outcomes().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
}

/// Checks that each proper prefix of an input is an error, and is not read beyond its end.
#[test]
fn no_beginning_of_an_input_is_a_term() {
    attached(|py| {
        for (name, outcome) in outcomes() {
            let whole = input(&name);
            if outcome.starts_with("error: ") || whole.len() > 10_000 {
                continue;
            }
            for end in 0..whole.len() {
                assert!(decoded(py, &whole[..end]).is_err(), "{name} up to {end}");
            }
        }
    });
}

/// Checks that a decoded object is encoded and decoded to the same, but for `bytes` that are text.
#[test]
fn what_is_read_is_written_back() {
    attached(|py| {
        for (name, outcome) in outcomes() {
            let object = match decoded(py, &input(&name)) {
                Ok(object) if name != "tagged_bytes" => object,
                _ => continue,
            };
            let again = decoded(py, &encode(&object).unwrap()).unwrap();
            assert_eq!(repr(&again), outcome, "{name}");
            assert!(again.eq(&object).unwrap(), "{name}");
        }
    });
}
