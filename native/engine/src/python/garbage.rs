//! Collects the reference cycles that a context leaves, which nothing else frees. Called attached;
//! finalizers run in a collection, and it blocks as long as they do.
//!
//! A worker collects the young generations when it has emptied a namespace: that is quick, and finds
//! all objects that were made since their last collection. Objects that have survived that are old:
//! if there was such a collection during the lease, the releaser collects all generations, in at most
//! one part in [`BUDGET`] of a processor. After `gc.disable()` of a program neither collects.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyTuple};
use std::mem;
use std::time::{Duration, Instant};

use crate::interpreter;
use crate::released;

/// The arguments of `gc.collect` for the young generations, and for all of them.
const YOUNG: usize = 1;
const ALL: usize = 2;

/// The pause after a full collection is this many times the processor time that it has taken.
const BUDGET: u32 = 100;
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// Makes a copy of `gc`, since code may replace the functions of the module. Called once, by `start`.
pub(crate) fn find(py: Python<'_>) -> PyResult<Py<PyModule>> {
    let gc = py.import("gc")?;
    let copy = PyModule::new(py, "erlang._gc")?;
    for name in ["collect", "get_count", "isenabled"] {
        copy.setattr(name, gc.getattr(name)?)?;
    }
    Ok(copy.unbind())
}

fn gc(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    Ok(interpreter::find(py)?.gc.bind(py))
}

/// Returns a number that changes when objects may have become old.
pub(crate) fn age(py: Python<'_>) -> PyResult<usize> {
    let counts = gc(py)?.call_method0(intern!(py, "get_count"))?;
    counts.cast::<PyTuple>()?.get_item(ALL)?.extract()
}

/// Collects the young garbage of a context, whose namespace was made at the age `age_before`, and
/// requests a full collection if some may be old. Called by the worker of the context.
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

/// The times at which the releaser may run full collections.
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
    /// Whether a collection was requested, and the pause after the last one is over.
    #[must_use]
    pub fn is_due(&self) -> bool {
        released::wants_collection() && self.not_before <= Instant::now()
    }

    /// Runs a full collection, and with it finalizers. An error is reported to `sys.unraisablehook`.
    pub fn run(&mut self, py: Python<'_>) {
        released::begin_collection();
        let start = thread_time();
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
        // Waits for the GIL, and for a processor, cost the others nothing.
        let taken = thread_time().saturating_sub(start);
        let pause = taken.saturating_mul(BUDGET).max(MIN_PAUSE);
        self.not_before = Instant::now() + pause;
    }

    /// Returns the time of the next collection, if one was requested.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        released::wants_collection().then_some(self.not_before)
    }
}

/// The processor time that the calling thread has taken.
fn thread_time() -> Duration {
    // SAFETY: plain data, of which zeroes are a valid value; the call fills it, or leaves it as it is.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
