//! Wakes an event loop: an eventfd that the loop watches.
//!
//! `wake` is called by scheduler threads, the watchdog, the interrupter and other workers: it never
//! blocks and never attaches.

use pyo3::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::host::Wake;
use crate::lock::lock;

pub struct LoopWaker {
    /// An `eventfd`, which does not block.
    file: File,
    /// The callbacks that have something for the loop, by their numbers.
    ready: Mutex<VecDeque<u64>>,
}

impl LoopWaker {
    fn new() -> io::Result<Arc<Self>> {
        // SAFETY: makes a descriptor, or returns -1.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and owned by nobody else.
        let file = unsafe { File::from_raw_fd(descriptor) };
        let ready = Mutex::default();
        Ok(Arc::new(Self { file, ready }))
    }

    pub fn wake(&self) {
        // It fails only when it would overflow: rung often enough.
        let _: io::Result<usize> = (&self.file).write(&1_u64.to_ne_bytes());
    }

    /// This callback has something for the loop.
    fn wake_for(&self, callback: u64) {
        self.ready().push_back(callback);
        self.wake();
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<u64>> {
        lock(&self.ready)
    }
}

/// Wakes the event loop for one call of Erlang that a coroutine awaits.
pub(crate) struct CallbackWaker {
    pub(crate) loop_waker: Arc<LoopWaker>,
    pub(crate) callback: u64,
}

impl Wake for CallbackWaker {
    fn wake(&self) {
        self.loop_waker.wake_for(self.callback);
    }
}

/// For Python code.
#[pyclass(frozen, name = "LoopWaker", module = "erlang")]
pub(crate) struct PyLoopWaker(pub(crate) Arc<LoopWaker>);

#[pymethods]
impl PyLoopWaker {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(LoopWaker::new()?))
    }

    fn fileno(&self) -> RawFd {
        self.0.file.as_raw_fd()
    }

    /// The first callback that has something for the loop. The bell is silent once there is none.
    fn first(&self) -> Option<u64> {
        loop {
            let first = self.0.ready().front().copied();
            if first.is_some() {
                return first;
            }
            // Fails when it was silent.
            let _: io::Result<usize> = (&self.0.file).read(&mut [0; 8]);
            if self.0.ready().is_empty() {
                return None;
            }
            // Came in between: an interruption of the loop must not make it wait for ever.
            self.0.wake();
        }
    }

    /// The next, when `first` has got what there was for it.
    fn after(&self, first: u64) -> Option<u64> {
        let mut ready = self.0.ready();
        if ready.front() == Some(&first) {
            ready.pop_front();
        }
        drop(ready);
        self.first()
    }
}
