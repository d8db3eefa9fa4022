//! Wakes an event loop by an eventfd, or a pipe where the system has none, for which the loop has a
//! reader.
//!
//! `wake` is called by scheduler threads, the watchdog, the interrupter and other workers: it never
//! blocks and never attaches. `first` and `after` are called by the loop, attached.

use pyo3::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::FromRawFd;
#[cfg(any(test, not(target_os = "linux")))]
use std::os::fd::OwnedFd;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::host::Wake;
use crate::lock::lock;

/// The waker of one event loop.
pub struct LoopWaker {
    /// Readable while a wake-up has not been handled.
    reader: Arc<File>,
    /// Makes `reader` readable, and is the same file if that is an eventfd. Neither blocks.
    writer: Arc<File>,
    /// The ids of callbacks with an event that the loop has not taken. Locked for a push or a pop.
    ready: Mutex<VecDeque<u64>>,
}

impl LoopWaker {
    fn new() -> io::Result<Arc<Self>> {
        #[cfg(target_os = "linux")]
        let (reader, writer) = eventfd()?;
        #[cfg(not(target_os = "linux"))]
        let (reader, writer) = pipe()?;
        Ok(Arc::new(Self {
            reader,
            writer,
            ready: Mutex::default(),
        }))
    }

    /// Makes the descriptor readable, so that the loop calls its reader.
    pub fn wake(&self) {
        // Fails only if the counter is at its maximum, or the pipe full: it is readable then.
        let _: io::Result<usize> = (&*self.writer).write(&1_u64.to_ne_bytes());
    }

    /// Undoes the wake-ups until now.
    fn reset(&self) {
        // Fails with `EAGAIN` if there was none. A pipe with more of them stays readable, and the loop
        // calls its reader once more.
        let _: io::Result<usize> = (&*self.reader).read(&mut [0; 512]);
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

/// The end to read and the end to write.
type Ends = (Arc<File>, Arc<File>);

/// Returns an eventfd, which is both ends.
#[cfg(target_os = "linux")]
fn eventfd() -> io::Result<Ends> {
    // SAFETY: takes no pointer; returns a descriptor, or -1.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and this `File` is its only owner.
    let file = Arc::new(unsafe { File::from_raw_fd(descriptor) });
    Ok((Arc::clone(&file), file))
}

/// Returns the two ends of a pipe.
#[cfg(any(test, not(target_os = "linux")))]
fn pipe() -> io::Result<Ends> {
    let (reader, writer) = io::pipe()?;
    for end in [reader.as_raw_fd(), writer.as_raw_fd()] {
        // SAFETY: the descriptor is open, and the request takes no pointer.
        if unsafe { libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let file = |end: OwnedFd| Arc::new(File::from(end));
    Ok((file(reader.into()), file(writer.into())))
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
        self.0.reader.as_raw_fd()
    }

    /// Returns the id of the first callback that is ready. Undoes the wake-ups, and returns `None`, if
    /// there is none.
    fn first(&self) -> Option<u64> {
        loop {
            let first = self.0.ready().front().copied();
            if first.is_some() {
                return first;
            }
            self.0.reset();
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

#[cfg(test)]
mod tests {
    use super::{Ends, LoopWaker, Mutex, eventfd, io, pipe};
    use std::os::fd::AsRawFd;

    fn is_readable(waker: &LoopWaker) -> bool {
        let mut poll = libc::pollfd {
            fd: waker.reader.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the structure lives during the call, and is the only one.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// Wakes more often than a pipe has room for.
    fn wakes_and_is_reset((reader, writer): Ends) {
        let waker = LoopWaker {
            reader,
            writer,
            ready: Mutex::default(),
        };
        assert!(!is_readable(&waker));
        for _ in 0..10_000 {
            waker.wake();
        }
        assert!(is_readable(&waker));
        let resets = (0..10_000).take_while(|_| {
            waker.reset();
            is_readable(&waker)
        });
        assert!(resets.count() < 10_000);
        waker.reset();
        waker.wake();
        assert!(is_readable(&waker));
    }

    #[test]
    fn an_eventfd_wakes_and_is_reset() -> io::Result<()> {
        wakes_and_is_reset(eventfd()?);
        Ok(())
    }

    #[test]
    fn a_pipe_wakes_and_is_reset() -> io::Result<()> {
        wakes_and_is_reset(pipe()?);
        Ok(())
    }
}
