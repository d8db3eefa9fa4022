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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::interpreter::{self, SwitchInterval};

/// Microseconds after which a worker requests the GIL. A thread that computes loses the time of two
/// switches, some tens of microseconds, at most once in this time.
const SHORT: c_ulong = 500;

type Setter = unsafe extern "C" fn(c_ulong);

/// Looks up the setter, which only 3.11 and earlier can call detached. Called once, by `start`.
pub(crate) fn find(py: Python<'_>) -> PyResult<SwitchInterval> {
    let set_attached = py.import("sys")?.getattr("setswitchinterval")?;
    let mut found = SwitchInterval {
        set: None,
        set_attached: set_attached.unbind(),
        chosen: AtomicU64::new(5_000),
        is_wanted: AtomicBool::new(false),
        is_kept: AtomicBool::new(false),
        is_short: AtomicBool::new(false),
    };
    if py.version_info() < (3, 12) {
        // SAFETY: looks up a symbol, by a NUL-terminated name.
        let symbol =
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyEval_SetSwitchInterval".as_ptr()) };
        // SAFETY: the function has this signature in these versions; null becomes `None`.
        found.set = unsafe { mem::transmute::<*mut c_void, Option<Setter>>(symbol) };
    }
    Ok(found)
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

/// Calls `attach`, which waits for the GIL, and has the code that runs give the GIL up at once: at its next
/// call or turn of a loop. So a look at that code finds it where it is, and not where it next waits for
/// something; and a loop that releases the GIL again and again, for a moment, keeps no thread waiting.
///
/// COMPAT(3.12): later versions need the GIL to change the interval, so the thread that has it does so when
/// it next calls [`answer`]; or it is short already, see [`keep`]. The caller calls [`settle`], attached.
pub(crate) fn attach_at_once<T>(attach: impl FnOnce() -> T) -> T {
    let Some(interpreter) = interpreter::get() else {
        return attach();
    };
    let interval = &interpreter.switch_interval;
    let chosen = || interval.chosen.load(Ordering::Relaxed) as c_ulong;
    match interval.set {
        // SAFETY: the setter writes one aligned word, and needs no GIL in these versions.
        Some(set) => unsafe { set(1) },
        None => interval.is_wanted.store(true, Ordering::Relaxed),
    }
    let attached = attach();
    match interval.set {
        // SAFETY: as above.
        Some(set) => unsafe { set(chosen()) },
        None => interval.is_wanted.store(false, Ordering::Relaxed),
    }
    attached
}

/// Makes the interval short if a thread waits in [`attach_at_once`]. Called often, attached, by workers and by
/// event loops.
pub(crate) fn answer(py: Python<'_>) {
    if let Some(interpreter) = interpreter::get()
        && interpreter
            .switch_interval
            .is_wanted
            .load(Ordering::Relaxed)
    {
        set_attached(py, &interpreter.switch_interval, true);
    }
}

/// Says whether the interval stays short from the next [`settle`] on. Meanwhile all threads that wait for the
/// GIL interrupt the one that has it: so this is for when one thread alone runs Python code. COMPAT(3.11):
/// does nothing, since `attach_at_once` needs no help.
pub(crate) fn keep(is_kept: bool) {
    if let Some(interpreter) = interpreter::get() {
        let interval = &interpreter.switch_interval;
        let is_kept = is_kept && interval.set.is_none();
        interval.is_kept.store(is_kept, Ordering::Relaxed);
    }
}

/// Returns `true` if the interval stays short until [`keep`] and `settle` are called.
pub(crate) fn is_kept() -> bool {
    interpreter::get()
        .is_some_and(|interpreter| interpreter.switch_interval.is_kept.load(Ordering::Relaxed))
}

/// Resets the interval, unless it is to stay short. Called attached.
pub(crate) fn settle(py: Python<'_>) {
    if let Some(interpreter) = interpreter::get() {
        let interval = &interpreter.switch_interval;
        set_attached(py, interval, interval.is_kept.load(Ordering::Relaxed));
    }
}

fn set_attached(py: Python<'_>, interval: &SwitchInterval, is_short: bool) {
    if interval.is_short.swap(is_short, Ordering::Relaxed) == is_short {
        return;
    }
    let microseconds = if is_short {
        1
    } else {
        interval.chosen.load(Ordering::Relaxed)
    };
    let seconds = Duration::from_micros(microseconds).as_secs_f64();
    // Fails only for want of memory, and the interval stays as it was.
    let _: PyResult<_> = interval.set_attached.bind(py).call1((seconds,));
}

/// Runs `body` detached, and attaches again with a short switch interval. `body` blocks until the
/// worker has something to do.
pub fn detach(py: Python<'_>, body: impl FnOnce() + Send) {
    let Some(SwitchInterval {
        set: Some(set),
        chosen,
        ..
    }) = interpreter::get().map(|interpreter| &interpreter.switch_interval)
    else {
        py.detach(body);
        return answer(py);
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
