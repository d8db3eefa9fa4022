//! What wakes an event loop: it watches a file descriptor, which anybody may write to.
//!
//! Rung by scheduler threads, the watchdog and other workers: never blocks, never attaches.

use pyo3::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::station::Station;

pub(crate) struct Bell {
    /// An `eventfd`, which does not block.
    file: File,
    /// The callbacks that have something for the loop, by their numbers.
    ready: Mutex<VecDeque<u64>>,
}

impl Bell {
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

    pub(crate) fn ring(&self) {
        // It fails only when it would overflow: rung often enough.
        let _: io::Result<usize> = (&self.file).write(&1_u64.to_ne_bytes());
    }

    /// This callback has something for the loop.
    pub(crate) fn ring_for(&self, callback: u64) {
        self.ready().push_back(callback);
        self.ring();
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<u64>> {
        // Whole after each operation, whatever panicked.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop of this bell runs in the calling thread from here on, or none. Returns the bell of the
/// one that ran before.
#[pyfunction]
pub(crate) fn attend(bell: Option<&Bound<'_, PyBell>>) -> Option<PyBell> {
    let bell = bell.map(|bell| Arc::clone(&bell.get().0));
    // Nobody interrupts a thread that has none.
    Station::existing()?.slot.attend(bell).map(PyBell)
}

/// For Python code.
#[pyclass(frozen, name = "Bell", module = "erlang")]
pub(crate) struct PyBell(pub(crate) Arc<Bell>);

#[pymethods]
impl PyBell {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Bell::new()?))
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
            self.0.ring();
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
