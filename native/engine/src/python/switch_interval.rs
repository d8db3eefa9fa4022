//! Shortens the switch interval while a worker begins to wait for the GIL, so that the worker gets the
//! GIL sooner from code that computes.
//!
//! A thread that waits for the GIL requests it when the GIL has not changed hands for a whole switch
//! interval, 5 ms. While two threads that compute pass it to each other, a third may wait for a fifth
//! of a second. A shorter interval for all threads would make them switch more often. But each thread
//! reads the interval when it begins to wait: so it is short only while a worker begins to.
//!
//! COMPAT(3.11): later versions need the GIL for a change of the interval. `detach` is called on
//! workers, attached, and blocks.

use pyo3::prelude::*;
use std::ffi::{c_ulong, c_void};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::interpreter::{self, SwitchInterval};

/// Microseconds after which a worker requests the GIL. A thread that computes loses the time of two
/// switches, some tens of microseconds, at most once in this time.
const SHORT: c_ulong = 500;

type Setter = unsafe extern "C" fn(c_ulong);

/// Looks up the setter, which only 3.11 and earlier can call detached. Called once, by `start`.
pub(crate) fn find(py: Python<'_>) -> SwitchInterval {
    let mut found = SwitchInterval {
        set: None,
        chosen: AtomicU64::new(5_000),
    };
    if py.version_info() < (3, 12) {
        // SAFETY: looks up a symbol, by a NUL-terminated name.
        let symbol =
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyEval_SetSwitchInterval".as_ptr()) };
        // SAFETY: the function has this signature in these versions; null becomes `None`.
        found.set = unsafe { mem::transmute::<*mut c_void, Option<Setter>>(symbol) };
    }
    found
}

/// Records the interval that a program has set, in microseconds. Called by the replacement of
/// `sys.setswitchinterval`.
#[pyfunction]
pub(crate) fn note_interval(interval: u64) {
    if let Some(interpreter) = interpreter::get() {
        let chosen = &interpreter.switch_interval.chosen;
        chosen.store(interval.max(1), Ordering::Relaxed);
    }
}

/// Runs `body` detached, and attaches again with a short switch interval. `body` blocks until the
/// worker has something to do.
pub fn detach(py: Python<'_>, body: impl FnOnce() + Send) {
    let Some(SwitchInterval {
        set: Some(set),
        chosen,
    }) = interpreter::get().map(|interpreter| &interpreter.switch_interval)
    else {
        return py.detach(body);
    };
    let chosen = || chosen.load(Ordering::Relaxed) as c_ulong;
    py.detach(|| {
        body();
        // SAFETY: the setter writes one aligned word, and needs no GIL in these versions.
        unsafe { set(SHORT.min(chosen())) };
    });
    // SAFETY: the setter writes one aligned word, and needs no GIL in these versions.
    unsafe { set(chosen()) };
}
