//! Wakes an event loop by an eventfd, for which the loop has a reader.
//!
//! `wake` is called by scheduler threads, the watchdog, the interrupter and other workers: it never
//! blocks and never attaches. `first` and `after` are called by the loop, attached.

use pyo3::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::host::Wake;
use crate::lock::lock;

/// The waker of one event loop.
pub struct LoopWaker {
    /// A non-blocking eventfd: readable while a wake-up has not been handled.
    file: File,
    /// The ids of callbacks with an event that the loop has not taken. Locked for a push or a pop.
    ready: Mutex<VecDeque<u64>>,
}

impl LoopWaker {
    fn new() -> io::Result<Arc<Self>> {
        // SAFETY: takes no pointer; returns a descriptor, or -1.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and this `File` is its only owner.
        let file = unsafe { File::from_raw_fd(descriptor) };
        let ready = Mutex::default();
        Ok(Arc::new(Self { file, ready }))
    }

    /// Makes the eventfd readable, so that the loop calls its reader.
    pub fn wake(&self) {
        // Fails only if the counter is at its maximum: the eventfd is readable then.
        let _: io::Result<usize> = (&self.file).write(&1_u64.to_ne_bytes());
    }

    /// Wakes the loop for an event of the callback with this id.
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

/// A [`LoopWaker`] as `event_loop.py` has it.
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

    /// Returns the id of the first callback that is ready. Resets the eventfd, and returns `None`, if
    /// there is none.
    fn first(&self) -> Option<u64> {
        loop {
            let first = self.0.ready().front().copied();
            if first.is_some() {
                return first;
            }
            // Fails with `EAGAIN` if the eventfd was not readable.
            let _: io::Result<usize> = (&self.0.file).read(&mut [0; 8]);
            if self.0.ready().is_empty() {
                return None;
            }
            // A callback became ready before the read, which took its wake-up. An interrupt may hit
            // the loop before it handles the callback, so the eventfd has to be readable again.
            self.0.wake();
        }
    }

    /// Removes `first`, whose events the loop has taken, and returns the next id as `first` does.
    fn after(&self, first: u64) -> Option<u64> {
        let mut ready = self.0.ready();
        if ready.front() == Some(&first) {
            ready.pop_front();
        }
        drop(ready);
        self.first()
    }
}
