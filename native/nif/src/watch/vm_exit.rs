//! The end of the VM while Python code runs.
//!
//! `exit` runs the destructors of every library, on the thread that ends the VM, while the workers
//! go on. A library does not expect that: OpenBLAS either waits for its threads for ever or frees
//! the memory that a product is using. So the exit handler ends the process at once if Python code
//! may be running, as a kill would; otherwise the VM ends as usual.
//!
//! The handler runs on the thread that calls `exit`, and blocks on the locks of the watched threads
//! only. `stop_if_exiting` runs on every thread that begins a task.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use std::{io, thread};

use super::registry::{is_busy, registry};

unsafe extern "C" {
    /// Registers an exit handler. A function of glibc: unlike with `atexit`, the handler gets the
    /// status.
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), data: *mut c_void) -> c_int;
}

/// Installs the exit handler. Called once, when Python has started. Handlers run last in, first
/// out, and before the destructors of shared libraries.
pub(crate) fn install() -> io::Result<()> {
    // SAFETY: the handler is a function of this library, which is never unloaded.
    match unsafe { on_exit(leave, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::other("no memory for an exit handler")),
    }
}

/// Returns if the VM goes on. If it ends, parks the calling thread for good: Python code that began
/// now would run among destructors.
pub(super) fn stop_if_exiting() {
    while registry().is_exiting.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Records that Python code has left threads running, which are not watched. Called by workers;
/// never taken back, since the end of such a thread is not known.
pub(crate) fn expect_left_threads() {
    registry()
        .may_have_left_threads
        .store(true, Ordering::SeqCst);
}

extern "C" fn leave(status: c_int, _data: *mut c_void) {
    // A thread that shows a task after `is_busy` has looked finds this flag set.
    registry().is_exiting.store(true, Ordering::SeqCst);
    if registry().may_have_left_threads.load(Ordering::SeqCst) || is_busy() {
        // SAFETY: `_exit` ends the process without running any more code of it.
        unsafe { libc::_exit(status) };
    }
}
