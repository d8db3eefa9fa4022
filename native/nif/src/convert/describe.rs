//! A term as a person reads it in an error: the beginning of it. What the BEAM prints would be the
//! whole, and takes a time quadratic in the size of an integer.

use rustler::sys::ErlNifTermType as Kind;
use rustler::{Binary, MapIterator, Term};
use std::fmt::Write;

/// Characters, give or take the last item.
const LIMIT: usize = 200;

pub(super) fn describe(term: Term<'_>) -> String {
    let mut text = String::new();
    append(&mut text, term);
    text
}

/// Nothing once the limit is reached; so the recursion is no deeper than that.
fn append(text: &mut String, term: Term<'_>) {
    if text.len() >= LIMIT {
        return;
    }
    match term.get_erl_type() {
        Kind::ERL_NIF_TERM_TYPE_INTEGER => match term.decode::<i64>() {
            Ok(small) => put(text, &small.to_string()),
            Err(_) => put(text, "<big integer>"),
        },
        Kind::ERL_NIF_TERM_TYPE_BITSTRING => binary(text, term),
        Kind::ERL_NIF_TERM_TYPE_LIST => list(text, term),
        Kind::ERL_NIF_TERM_TYPE_TUPLE => {
            let elements = rustler::types::tuple::get_tuple(term).unwrap_or_default();
            sequence(text, ["{", "}"], elements.into_iter(), append);
        }
        Kind::ERL_NIF_TERM_TYPE_MAP => {
            let entries = MapIterator::new(term).into_iter().flatten();
            sequence(text, ["#{", "}"], entries, |text, (key, value)| {
                append(text, key);
                put(text, " => ");
                append(text, value);
            });
        }
        // Atoms, floats, pids, ports, references, funs: short, whatever they are.
        _ => put(text, &format!("{term:?}")),
    }
}

fn binary(text: &mut String, term: Term<'_>) {
    let Ok(binary) = Binary::from_term(term) else {
        return put(text, "<bitstring>");
    };
    let bytes = binary.as_slice();
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(LIMIT)]);
    put(text, &format!("<<{start:?}"));
    put(text, if bytes.len() > LIMIT { "…>>" } else { ">>" });
}

/// The tail of an improper list comes after a bar.
fn list(text: &mut String, list: Term<'_>) {
    put(text, "[");
    let mut rest = list;
    let mut separator = "";
    while let Ok((head, tail)) = rest.list_get_cell() {
        if text.len() >= LIMIT {
            put(text, "…");
            break;
        }
        put(text, separator);
        append(text, head);
        separator = ",";
        rest = tail;
        if !rest.is_list() {
            put(text, "|");
            append(text, rest);
        }
    }
    put(text, "]");
}

fn sequence<T>(
    text: &mut String,
    [open, close]: [&str; 2],
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut String, T),
) {
    put(text, open);
    for (index, item) in items.enumerate() {
        if text.len() >= LIMIT {
            put(text, "…");
            break;
        }
        if index > 0 {
            put(text, ",");
        }
        each(text, item);
    }
    put(text, close);
}

fn put(text: &mut String, more: &str) {
    // Writing to a string cannot fail.
    let _: std::fmt::Result = text.write_str(more);
}
