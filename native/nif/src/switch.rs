//! How soon a worker that has been called gets the GIL from code that computes.
//!
//! Who waits for the GIL asks for it when nobody else has had it for a whole switch interval, 5 ms.
//! Two threads that compute hand it to each other all that time, so a third may wait for a fifth of
//! a second. A shorter interval for all would make every switch between them more frequent. But
//! each thread reads the interval when it begins to wait: so it is short for a moment, while a
//! worker begins to.
//!
//! Up to Python 3.11 only: later ones want the GIL for setting it. Runs on workers.

use once_cell::sync::OnceCell;
use pyo3::prelude::*;
use std::ffi::{c_ulong, c_void};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};

/// Microseconds after which a worker asks for the GIL. A call may cost a thread that computes so
/// much time as two switches take, some tens of microseconds, at most so often.
const SHORT: c_ulong = 500;

type Setter = unsafe extern "C" fn(c_ulong);

/// `_PyEval_SetSwitchInterval`, which writes a word and needs no GIL.
static SETTER: OnceCell<Setter> = OnceCell::new();
/// What `sys.setswitchinterval` was last given, in microseconds.
static INTERVAL: AtomicU64 = AtomicU64::new(5_000);

/// Runs once, attached.
pub(crate) fn init(py: Python<'_>) {
    if py.version_info() >= (3, 12) {
        return;
    }
    // SAFETY: asks for a symbol of the Python that was made global.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyEval_SetSwitchInterval".as_ptr()) };
    if !found.is_null() {
        // SAFETY: that function has this signature in these versions.
        let setter = unsafe { mem::transmute::<*mut c_void, Setter>(found) };
        // Python is started once.
        let _: Result<(), _> = SETTER.set(setter);
    }
}

/// Called by `sys.setswitchinterval`, with microseconds.
#[pyfunction]
pub(crate) fn note_interval(interval: u64) {
    INTERVAL.store(interval.max(1), Ordering::Relaxed);
}

/// Runs `body` detached. It returns when there is something to do.
pub(crate) fn detach(py: Python<'_>, body: impl FnOnce() + Send) {
    py.detach(|| {
        body();
        set(SHORT.min(interval()));
    });
    set(interval());
}

fn interval() -> c_ulong {
    INTERVAL.load(Ordering::Relaxed) as c_ulong
}

fn set(interval: c_ulong) {
    if let Some(setter) = SETTER.get() {
        // SAFETY: writes a word, which other threads read at any time.
        unsafe { setter(interval) };
    }
}
