//! What is written before the VM dies: C code that crashes takes the VM with it, and this says
//! where every Python thread was. Python's own `faulthandler`, on standard error.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::{mem, ptr};

/// More than `faulthandler` needs, which asks for `SIGSTKSZ`.
const STACK_SIZE: usize = 64 << 10;

/// Runs once, on Python's main thread.
pub(crate) fn enable(py: Python<'_>) -> PyResult<()> {
    // Nobody who starts a release without standard error can be told anything.
    let arguments = PyDict::new(py);
    arguments.set_item("file", libc::STDERR_FILENO)?;
    arguments.set_item("all_threads", true)?;
    let faulthandler = py.import("faulthandler")?;
    faulthandler.call_method("enable", (), Some(&arguments))?;
    Ok(())
}

/// The stack that the handler runs on when a thread has used up its own.
pub struct SignalStack {
    memory: Vec<u8>,
}

impl SignalStack {
    /// For the calling thread, as long as the value lives, which is no longer than the thread.
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
    // SAFETY: plain data, and memory that the caller keeps until it disables the stack. A failure
    // leaves the thread without such a stack, as it was before.
    unsafe {
        let mut stack: libc::stack_t = mem::zeroed();
        stack.ss_sp = memory.cast();
        stack.ss_size = STACK_SIZE;
        stack.ss_flags = flags;
        libc::sigaltstack(&raw const stack, ptr::null_mut());
    }
}
