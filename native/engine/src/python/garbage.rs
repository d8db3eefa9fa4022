//! Collects the reference cycles that a context leaves, which end in no other way. Attached.
//!
//! The worker collects the young generations when it has emptied a namespace: that is quick, and
//! finds all that was made since the last collection of them. Objects that have outlived such a
//! collection are old; if there was one during the lease, the releaser collects everything, in its
//! own time: one part in [`BUDGET`] of the time at most. Code that has called `gc.disable()` is
//! obeyed.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyTuple};
use std::time::{Duration, Instant};

use crate::interpreter;
use crate::released;

/// The generations that are young, and the last one.
const YOUNG: usize = 1;
const ALL: usize = 2;

/// A full collection comes no sooner than this many times its own length after the one before.
const BUDGET: u32 = 100;
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// A copy of `gc`: code may replace the functions of the module. Called once.
pub(crate) fn find(py: Python<'_>) -> PyResult<Py<PyModule>> {
    let gc = py.import("gc")?;
    let own = PyModule::new(py, "erlang._gc")?;
    for name in ["collect", "get_count", "isenabled"] {
        own.setattr(name, gc.getattr(name)?)?;
    }
    Ok(own.unbind())
}

fn gc(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    Ok(interpreter::find(py)?.gc.bind(py))
}

/// A number that is another after objects of the calling thread may have become old.
pub(crate) fn age(py: Python<'_>) -> PyResult<usize> {
    let counts = gc(py)?.call_method0(intern!(py, "get_count"))?;
    counts.cast::<PyTuple>()?.get_item(ALL)?.extract()
}

/// Collects what a context has left, which began at this `age`. Runs on its worker.
pub(crate) fn collect_young(py: Python<'_>, age_before: usize) -> PyResult<()> {
    let gc = gc(py)?;
    if !gc.call_method0(intern!(py, "isenabled"))?.is_truthy()? {
        return Ok(());
    }
    let is_older = age(py)? != age_before;
    gc.call_method1(intern!(py, "collect"), (YOUNG,))?;
    if is_older {
        released::request_collection();
    }
    Ok(())
}

/// When full collections may come. Of the releaser.
pub struct FullCollections {
    not_before: Instant,
}

impl Default for FullCollections {
    fn default() -> Self {
        Self {
            not_before: Instant::now(),
        }
    }
}

impl FullCollections {
    /// Whether one is due now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        released::wants_collection() && self.not_before <= Instant::now()
    }

    /// Runs one. Finalizers run in it.
    pub fn run(&mut self, py: Python<'_>) {
        released::begin_collection();
        let start = Instant::now();
        let collect = || {
            let gc = gc(py)?;
            if gc.call_method0(intern!(py, "isenabled"))?.is_truthy()? {
                gc.call_method1(intern!(py, "collect"), (ALL,))?;
            }
            Ok::<_, PyErr>(())
        };
        if let Err(error) = collect() {
            error.write_unraisable(py, None);
        }
        let pause = start.elapsed().saturating_mul(BUDGET).max(MIN_PAUSE);
        self.not_before = Instant::now() + pause;
    }

    /// When the next one may run, if one is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        released::wants_collection().then_some(self.not_before)
    }
}
