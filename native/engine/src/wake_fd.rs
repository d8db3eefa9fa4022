//! A descriptor that wakes a thread which polls: an eventfd, or a pipe where the system has none.
//!
//! `wake` is called on any thread: it never blocks and never attaches. `reset` is called by the thread that
//! polls.

use std::fs::File;
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::FromRawFd;
#[cfg(any(test, not(target_os = "linux")))]
use std::os::fd::OwnedFd;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use crate::host::Wake;

pub struct WakeFd {
    /// Readable while a wake-up has not been handled.
    reader: Arc<File>,
    /// Makes `reader` readable, and is the same file if that is an eventfd. Neither blocks.
    writer: Arc<File>,
}

impl WakeFd {
    /// Makes the descriptor.
    ///
    /// # Errors
    /// The process has no room for another descriptor.
    pub fn new() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        return eventfd();
        #[cfg(not(target_os = "linux"))]
        return pipe();
    }

    /// Undoes the wake-ups until now.
    pub fn reset(&self) {
        // Fails with `EAGAIN` if there was none. A pipe with more of them stays readable, and its thread
        // looks once more.
        let _: io::Result<usize> = (&*self.reader).read(&mut [0; 512]);
    }
}

impl Wake for WakeFd {
    /// Makes the descriptor readable.
    fn wake(&self) {
        // Fails only if the counter is at its maximum, or the pipe full: it is readable then.
        let _: io::Result<usize> = (&*self.writer).write(&1_u64.to_ne_bytes());
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

/// Makes an eventfd, which is both ends.
#[cfg(target_os = "linux")]
fn eventfd() -> io::Result<WakeFd> {
    // SAFETY: takes no pointer; returns a descriptor, or -1.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and this `File` is its only owner.
    let reader = Arc::new(unsafe { File::from_raw_fd(descriptor) });
    let writer = Arc::clone(&reader);
    Ok(WakeFd { reader, writer })
}

/// Makes a pipe, of which each end has its file.
#[cfg(any(test, not(target_os = "linux")))]
fn pipe() -> io::Result<WakeFd> {
    let (reader, writer) = io::pipe()?;
    for end in [reader.as_raw_fd(), writer.as_raw_fd()] {
        // SAFETY: the descriptor is open, and the request takes no pointer.
        if unsafe { libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let file = |end: OwnedFd| Arc::new(File::from(end));
    let (reader, writer) = (file(reader.into()), file(writer.into()));
    Ok(WakeFd { reader, writer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(waker: &WakeFd) -> bool {
        let mut poll = libc::pollfd {
            fd: waker.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the structure lives during the call, and is the only one.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// Wakes more often than a pipe has room for.
    fn wakes_and_is_reset(waker: &WakeFd) {
        assert!(!is_readable(waker));
        for _ in 0..10_000 {
            waker.wake();
        }
        assert!(is_readable(waker));
        let resets = (0..10_000).take_while(|_| {
            waker.reset();
            is_readable(waker)
        });
        assert!(resets.count() < 10_000);
        waker.reset();
        waker.wake();
        assert!(is_readable(waker));
    }

    #[test]
    fn an_eventfd_wakes_and_is_reset() -> io::Result<()> {
        wakes_and_is_reset(&eventfd()?);
        Ok(())
    }

    #[test]
    fn a_pipe_wakes_and_is_reset() -> io::Result<()> {
        wakes_and_is_reset(&pipe()?);
        Ok(())
    }
}
