//! What is in a namespace, for a comparison by address. Runs on workers, attached.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};
use std::ptr;

/// The entries of a module that is new, and one more.
const NEW_ENTRIES: usize = 8;

/// The addresses of keys and values; compared, never followed.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    entries: [(usize, usize); NEW_ENTRIES],
    length: usize,
    /// How many refer to the module and to its dict.
    references: (isize, isize),
}

impl Contents {
    /// Runs no Python code.
    pub(super) fn of(module: &Bound<'_, PyModule>, globals: &Bound<'_, PyDict>) -> Self {
        let mut entries = [(0, 0); NEW_ENTRIES];
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        for entry in &mut entries {
            // SAFETY: attached, a dict, and no Python code runs between two steps.
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
