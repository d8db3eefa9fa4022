//! Collects the reference cycles that a context leaves, which end in no other way. Attached.
//!
//! The worker collects the young generations when it has emptied a namespace: that is quick, and
//! finds all that was made since the last collection of them. Objects that have outlived such a
//! collection are old; if there was one during the lease, the releaser collects everything, in its
//! own time: one part in [`BUDGET`] of the time at most. Code that has called `gc.disable()` is
//! obeyed.

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::release;

/// The generations that are young, and the last one.
const YOUNG: usize = 1;
const ALL: usize = 2;

/// A full collection comes no sooner than this many times its own length after the one before.
const BUDGET: u32 = 100;
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// `gc`, found before code of a context can put anything in its place.
static GC: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A context has ended that may have left old objects.
static MAY_HAVE_LEFT: AtomicBool = AtomicBool::new(false);

/// Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    // A copy: code may replace the functions of the module.
    let own = PyModule::new(py, "erlang._gc")?;
    for name in ["collect", "get_count", "isenabled"] {
        own.setattr(name, gc.getattr(name)?)?;
    }
    // Python is started once.
    let _: Result<(), _> = GC.set(py, own.unbind());
    Ok(())
}

fn gc(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let missing = || PyRuntimeError::new_err("Python has not been set up");
    Ok(GC.get(py).ok_or_else(missing)?.bind(py))
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
    if is_older && !MAY_HAVE_LEFT.swap(true, Ordering::SeqCst) {
        release::ring();
    }
    Ok(())
}

/// When full collections may come. Of the releaser.
pub(crate) struct FullCollections {
    not_before: Instant,
}

impl FullCollections {
    pub(crate) fn new() -> Self {
        Self {
            not_before: Instant::now(),
        }
    }

    /// Whether one is due now.
    pub(crate) fn is_due(&self) -> bool {
        MAY_HAVE_LEFT.load(Ordering::SeqCst) && self.not_before <= Instant::now()
    }

    /// Runs one. Finalizers run in it.
    pub(crate) fn run(&mut self, py: Python<'_>) {
        MAY_HAVE_LEFT.store(false, Ordering::SeqCst);
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

    /// Waits for a message, or until a collection is due.
    pub(crate) fn wait(&self, messages: &Receiver<()>) {
        let waited = if MAY_HAVE_LEFT.load(Ordering::SeqCst) {
            messages.recv_deadline(self.not_before)
        } else {
            messages
                .recv()
                .map_err(|RecvError| RecvTimeoutError::Disconnected)
        };
        // The releaser's channel holds its own sender: it cannot be disconnected.
        let (Ok(()) | Err(_)) = waited;
    }
}
