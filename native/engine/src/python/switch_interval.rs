//! How soon a worker that has been called gets the GIL from code that computes.
//!
//! Who waits for the GIL asks for it when nobody else has had it for a whole switch interval, 5 ms.
//! Two threads that compute hand it to each other all that time, so a third may wait for a fifth of
//! a second. A shorter interval for all would make every switch between them more frequent. But
//! each thread reads the interval when it begins to wait: so it is short for a moment, while a
//! worker begins to.
//!
//! COMPAT(3.11): later versions want the GIL for setting it. Runs on workers.

use pyo3::prelude::*;
use std::ffi::{c_ulong, c_void};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::interpreter::{self, SwitchInterval};

/// Microseconds after which a worker asks for the GIL. A call may cost a thread that computes so
/// much time as two switches take, some tens of microseconds, at most so often.
const SHORT: c_ulong = 500;

type Setter = unsafe extern "C" fn(c_ulong);

/// Looks the setter up. Called once, attached.
pub(crate) fn find(py: Python<'_>) -> SwitchInterval {
    let mut found = SwitchInterval {
        set: None,
        chosen: AtomicU64::new(5_000),
    };
    if py.version_info() < (3, 12) {
        // SAFETY: asks for a symbol of the Python that was made global.
        let symbol =
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyEval_SetSwitchInterval".as_ptr()) };
        // SAFETY: that function has this signature in these versions; null becomes `None`.
        found.set = unsafe { mem::transmute::<*mut c_void, Option<Setter>>(symbol) };
    }
    found
}

/// Called by `sys.setswitchinterval`, with microseconds.
#[pyfunction]
pub(crate) fn note_interval(interval: u64) {
    if let Some(interpreter) = interpreter::get() {
        let chosen = &interpreter.switch_interval.chosen;
        chosen.store(interval.max(1), Ordering::Relaxed);
    }
}

/// Runs `body` detached; `body` returns when there is something to do.
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
        // SAFETY: writes a word, which other threads read at any time.
        unsafe { set(SHORT.min(chosen())) };
    });
    // SAFETY: as above.
    unsafe { set(chosen()) };
}
