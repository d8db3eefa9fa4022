//! The end of the VM while Python code runs.
//!
//! `exit` runs the destructors of every library, on the thread that ends the VM, while the workers
//! go on. A library does not expect that: OpenBLAS either waits for its threads for ever or frees
//! the memory that a product is using. So the VM ends at once when anything of Python may be
//! running, as it does when it is killed; otherwise it ends as usual.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use std::{io, thread};

use super::registry::{is_busy, registry};

unsafe extern "C" {
    /// Of glibc; as `atexit`, but the handler learns the status.
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), data: *mut c_void) -> c_int;
}

/// Runs once. Handlers run last in, first out, and the destructors of shared libraries after all
/// of them.
pub(crate) fn install() -> io::Result<()> {
    // SAFETY: the handler is a function of this library, which is never unloaded.
    match unsafe { on_exit(leave, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::other("no memory for an exit handler")),
    }
}

/// No Python code may begin any more: it would run among destructors. Does not return then.
pub(super) fn stop_if_exiting() {
    while registry().is_exiting.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// There are threads of Python's own, and there may be for ever.
pub(crate) fn expect_strays() {
    registry().may_have_strays.store(true, Ordering::SeqCst);
}

extern "C" fn leave(status: c_int, _data: *mut c_void) {
    // Whoever shows a task from now on finds this set.
    registry().is_exiting.store(true, Ordering::SeqCst);
    if registry().may_have_strays.load(Ordering::SeqCst) || is_busy() {
        // SAFETY: ends the process; nothing is left to be unsound.
        unsafe { libc::_exit(status) };
    }
}
