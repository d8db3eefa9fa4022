//! The threads that the code of a context starts, and that may outlive it. Runs on workers,
//! attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyModule, PyWeakrefMethods, PyWeakrefReference};
use std::cell::RefCell;

use crate::station::Station;
use crate::thread_state;

/// Seconds that the threads of a context may take to end after it.
const PATIENCE: f64 = 0.05;
/// As many of their names are told, of this many characters.
const MAX_NAMES: usize = 32;
const MAX_LENGTH: usize = 100;
/// Each time that so many were started, those that have ended are forgotten.
const MANY: usize = 64;

thread_local! {
    /// The threads that were started here, by weak references. `None` on a thread that serves no
    /// context.
    static STARTED: RefCell<Option<Vec<Py<PyWeakrefReference>>>> = const { RefCell::new(None) };
}

/// Called by a worker before it serves anything: the threads that it starts are noted.
pub(crate) fn listen() {
    STARTED.set(Some(Vec::new()));
    thread_state::begin();
}

/// The worker ends.
pub(crate) fn forget() {
    drop(STARTED.take());
}

/// Called by `threading.Thread.start` before and after the new thread has begun, on any thread.
/// Up to Python 3.11 the state of a thread that is about to begin bears the identity of the one
/// that starts it, and `PyThreadState_SetAsyncExc` would find that one first.
#[pyfunction]
pub(crate) fn hold_interruptions(py: Python<'_>, held: bool) {
    if let Some(station) = Station::existing() {
        if held {
            station.slot.mask(py);
        } else {
            station.slot.unmask(py.into());
        }
    }
}

/// Called by `threading.Thread.start`, on any thread.
#[pyfunction]
pub(crate) fn note_thread(thread: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = thread.py();
    let reference = PyWeakrefReference::new(thread)?.unbind();
    let crowd = STARTED.with_borrow_mut(|started| {
        let started = started.as_mut()?;
        started.push(reference);
        started
            .len()
            .is_multiple_of(MANY)
            .then(|| std::mem::take(started))
    });
    if let Some(crowd) = crowd {
        // Runs Python code, so not within the borrow.
        let runs = |thread: &Py<_>| upgrade(py, thread).is_some_and(|t| is_alive(&t));
        let (kept, ended): (Vec<_>, Vec<_>) = crowd.into_iter().partition(runs);
        STARTED.with_borrow_mut(|started| started.get_or_insert_default().extend(kept));
        drop(ended);
    }
    Ok(())
}

pub(crate) fn none_started() -> bool {
    STARTED.with_borrow(|started| started.as_ref().is_none_or(Vec::is_empty))
}

/// The names of the threads that the context has started and that go on without it.
pub(crate) fn left_running(tidy: &Bound<'_, PyModule>) -> PyResult<Vec<String>> {
    let py = tidy.py();
    let started = STARTED.with_borrow_mut(|started| started.as_mut().map(std::mem::take));
    let started: Vec<_> = started
        .iter()
        .flatten()
        .filter_map(|t| upgrade(py, t))
        .collect();
    if started.is_empty() {
        return Ok(Vec::new());
    }
    let names = tidy.call_method1(intern!(py, "left_running"), (started, PATIENCE))?;
    let clip = |name: Bound<'_, PyAny>| {
        let name = name.str()?;
        Ok(name.to_string_lossy().chars().take(MAX_LENGTH).collect())
    };
    let names = names.cast::<PyList>()?.iter();
    names.take(MAX_NAMES).map(clip).collect()
}

fn upgrade<'py>(py: Python<'py>, thread: &Py<PyWeakrefReference>) -> Option<Bound<'py, PyAny>> {
    thread.bind(py).upgrade()
}

fn is_alive(thread: &Bound<'_, PyAny>) -> bool {
    let alive = thread.call_method0(intern!(thread.py(), "is_alive"));
    alive.and_then(|alive| alive.is_truthy()).unwrap_or(true)
}
