//! The descriptors that the thread of the children waits for: an epoll set. Called on any thread; only
//! `wait` blocks.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub(super) struct Poller(OwnedFd);

/// A descriptor on which something has happened.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) token: u64,
    /// There is something to read, or the other end has gone.
    pub(super) is_readable: bool,
    pub(super) has_room: bool,
}

/// Most events of one `wait`.
const MAX_EVENTS: usize = 64;

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; returns a descriptor, or -1.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Waits for something to read.
    pub(super) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN)
    }

    /// Waits for room to write, too, or does so no more.
    pub(super) fn want_room(&self, fd: RawFd, token: u64, is_wanted: bool) {
        let room = if is_wanted { libc::EPOLLOUT } else { 0 };
        // Fails only for a descriptor that was removed, since the child has gone.
        let _: io::Result<()> = self.control(libc::EPOLL_CTL_MOD, fd, token, libc::EPOLLIN | room);
    }

    pub(super) fn remove(&self, fd: RawFd) {
        // Fails only for a descriptor that was removed before.
        let _: io::Result<()> = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, operation: i32, fd: RawFd, token: u64, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events.cast_unsigned(),
            u64: token,
        };
        // SAFETY: the event is read during the call only.
        let done = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Blocks until something has happened, or for `timeout`; `None` for ever.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Vec<Event> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS];
        // Rounded up, or the last millisecond would be waited for in a loop.
        let timeout = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_millis() + 1).unwrap_or(i32::MAX)
        });
        // SAFETY: the array has as many entries as is said.
        let count = unsafe {
            let most = MAX_EVENTS as i32;
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), most, timeout)
        };
        // A failure, `EINTR`, leaves no events.
        let count = usize::try_from(count).unwrap_or(0);
        let events = events.iter().take(count).map(|event| Event {
            token: event.u64,
            is_readable: event.events & !(libc::EPOLLOUT.cast_unsigned()) != 0,
            has_room: event.events & libc::EPOLLOUT.cast_unsigned() != 0,
        });
        events.collect()
    }
}
