//! Settings of a pool for its children, beside their limits.

use py_codec::NoneAtom;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The settings of a child, from a dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Settings {
    /// The time in which code has to stop, in milliseconds.
    pub(crate) grace: u64,
    /// The name of the atom that `None` becomes.
    none: String,
    /// Output goes to the descriptors of the process.
    pub(crate) inherits_output: bool,
}

impl Settings {
    /// Returns the atom that `None` becomes.
    pub(crate) fn none(&self) -> PyResult<NoneAtom> {
        let unknown = || PyValueError::new_err("an unknown atom for None");
        NoneAtom::from_name(&self.none).ok_or_else(unknown)
    }
}
