//! Atoms as interned strings, kept by each worker: names of modules, functions and keys come
//! again and again. Runs on workers, attached.

use pyo3::prelude::*;
use pyo3::types::PyString;
use rustler::Term;
use rustler::sys::ErlNifTerm;
use std::cell::RefCell;
use std::mem;

/// Each atom has one place, which it may share with others: the last one is in it.
const PLACES: usize = 512;

type Entry = Option<(usize, Py<PyString>)>;

thread_local! {
    static NAMES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Drops what this worker has kept; runs at its end.
pub(crate) fn forget() {
    drop(NAMES.take());
}

/// The text of `atom`, which `text` makes if it is not there.
pub(super) fn find<'py>(
    py: Python<'py>,
    atom: Term<'_>,
    text: impl FnOnce() -> String,
) -> Bound<'py, PyString> {
    // Atoms are never collected: the same word is the same atom for ever.
    // SAFETY: a transparent struct of one `usize`.
    let word = unsafe { mem::transmute::<ErlNifTerm, usize>(atom.as_c_arg()) };
    // The low six bits are the tag of an atom.
    let place = (word >> 6) % PLACES;
    let found = NAMES.with_borrow(|names| match names.get(place) {
        Some(Some((known, name))) if *known == word => Some(name.bind(py).clone()),
        _ => None,
    });
    found.unwrap_or_else(|| {
        let name = PyString::intern(py, &text());
        let entry = Some((word, name.clone().unbind()));
        NAMES.with_borrow_mut(|names| {
            if names.is_empty() {
                names.resize_with(PLACES, || None);
            }
            // A string has no finalizer: dropping the old one here runs nothing.
            names[place] = entry;
        });
        name
    })
}
