//! A snapshot of a namespace, which is compared by address with a later one. Made on the worker,
//! attached; runs no Python code and blocks on nothing.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use std::ptr;

/// Entries of a new module, and one more, so that an added entry is seen.
const NEW_ENTRIES: usize = 8;

/// The first entries of a namespace by the addresses of keys and values, which are never dereferenced.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    entries: [(usize, usize); NEW_ENTRIES],
    length: usize,
    /// The reference counts of the module and of its dict.
    references: (isize, isize),
}

impl Contents {
    /// Takes a snapshot.
    pub(super) fn of(module: &Bound<'_, PyModule>, globals: &Bound<'_, PyDict>) -> Self {
        let mut entries = [(0, 0); NEW_ENTRIES];
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        for entry in &mut entries {
            // SAFETY: attached, and a dict; no Python code that could change it runs between two steps.
            let found =
                unsafe { ffi::PyDict_Next(globals.as_ptr(), &mut position, &mut key, &mut value) };
            if found == 0 {
                break;
            }
            *entry = (key.addr(), value.addr());
        }
        // SAFETY: attached, live objects.
        let references = unsafe {
            (
                ffi::Py_REFCNT(module.as_ptr()),
                ffi::Py_REFCNT(globals.as_ptr()),
            )
        };
        Self {
            entries,
            length: globals.len(),
            references,
        }
    }
}
