//! Wakes an event loop by a descriptor for which the loop has a reader.
//!
//! `wake` is called by scheduler threads, the watchdog, the interrupter and other workers: it never
//! blocks and never attaches. `first` and `after` are called by the loop, attached.

use pyo3::prelude::*;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::host::Wake;
use crate::lock::lock;
use crate::wake_fd::WakeFd;

/// The waker of one event loop.
pub struct LoopWaker {
    descriptor: WakeFd,
    /// The ids of callbacks with an event that the loop has not taken. Locked for a push or a pop.
    ready: Mutex<VecDeque<u64>>,
}

impl LoopWaker {
    fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            descriptor: WakeFd::new()?,
            ready: Mutex::default(),
        }))
    }

    /// Makes the descriptor readable, so that the loop calls its reader.
    pub fn wake(&self) {
        self.descriptor.wake();
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

impl Wake for LoopWaker {
    fn wake(&self) {
        Self::wake(self);
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
        self.0.descriptor.as_raw_fd()
    }

    /// Returns the id of the first callback that is ready. Undoes the wake-ups, and returns `None`, if
    /// there is none.
    fn first(&self) -> Option<u64> {
        loop {
            let first = self.0.ready().front().copied();
            if first.is_some() {
                return first;
            }
            self.0.descriptor.reset();
            if self.0.ready().is_empty() {
                return None;
            }
            // A callback became ready before the read, which took its wake-up. An interrupt may hit
            // the loop before it handles the callback, so the loop has to be woken again.
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
