//! Atoms as interned strings, kept for all workers: names of modules, functions and keys come
//! again and again. Runs on workers, attached.
//!
//! The GIL is what makes a place whole: nobody lets go of it between two looks at one, so each
//! part is an atomic that costs as little as a plain one, for the compiler's sake only.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustler::Term;
use rustler::sys::ErlNifTerm;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Each atom has one place, which it may share with others: the last one is in it.
const PLACES: usize = 1024;

struct Place {
    atom: AtomicUsize,
    /// A reference to a string, null at first.
    name: AtomicPtr<ffi::PyObject>,
}

static NAMES: [Place; PLACES] = [const { Place::new() }; PLACES];

impl Place {
    const fn new() -> Self {
        Self {
            atom: AtomicUsize::new(0),
            name: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn find<'py>(&self, py: Python<'py>, atom: usize) -> Option<Bound<'py, PyString>> {
        let name = self.name.load(Ordering::Relaxed);
        if name.is_null() || self.atom.load(Ordering::Relaxed) != atom {
            return None;
        }
        // SAFETY: attached, and the place holds a reference to this string.
        Some(unsafe { Bound::from_borrowed_ptr(py, name).cast_into_unchecked() })
    }

    fn keep(&self, name: Bound<'_, PyString>, atom: usize) {
        let py = name.py();
        self.atom.store(atom, Ordering::Relaxed);
        let old = self.name.swap(name.into_ptr(), Ordering::Relaxed);
        // A string has no finalizer: dropping the old one here runs nothing.
        // SAFETY: attached; the place gives up its reference, if it had one.
        drop(unsafe { Bound::from_owned_ptr_or_opt(py, old) });
    }
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
    let place = &NAMES[(word >> 6) % PLACES];
    place.find(py, word).unwrap_or_else(|| {
        let name = PyString::intern(py, &text());
        place.keep(name.clone(), word);
        name
    })
}
