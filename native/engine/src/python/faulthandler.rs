//! Python's `faulthandler`: when C code crashes, and the VM with it, the handler writes the Python
//! stacks of all threads to standard error. `enable` is called once, by `start`; each thread that runs
//! Python code installs a [`SignalStack`]. Blocks on nothing.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::{mem, ptr};

/// Bytes of a signal stack, more than the `SIGSTKSZ` that `faulthandler` asks for.
const STACK_SIZE: usize = 64 << 10;

/// Enables the handler. Called once, on Python's main thread, attached.
pub(crate) fn enable(py: Python<'_>) -> PyResult<()> {
    // The descriptor, not `sys.stderr`, which may be `None` or replaced.
    let arguments = PyDict::new(py);
    arguments.set_item("file", libc::STDERR_FILENO)?;
    arguments.set_item("all_threads", true)?;
    let faulthandler = py.import("faulthandler")?;
    faulthandler.call_method("enable", (), Some(&arguments))?;
    Ok(())
}

/// The stack on which the handler runs when a thread has overflowed its own.
pub struct SignalStack {
    memory: Vec<u8>,
}

impl SignalStack {
    /// Installs the stack for the calling thread, which must drop the value before it ends.
    #[must_use]
    pub fn install() -> Self {
        let mut memory = vec![0; STACK_SIZE];
        set(memory.as_mut_ptr(), 0);
        Self { memory }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        set(self.memory.as_mut_ptr(), libc::SS_DISABLE);
    }
}

fn set(memory: *mut u8, flags: libc::c_int) {
    // SAFETY: zeroes are a valid `stack_t`; the caller keeps the memory until it disables the stack. If
    // the call fails the thread has no signal stack, as before.
    unsafe {
        let mut stack: libc::stack_t = mem::zeroed();
        stack.ss_sp = memory.cast();
        stack.ss_size = STACK_SIZE;
        stack.ss_flags = flags;
        libc::sigaltstack(&raw const stack, ptr::null_mut());
    }
}
