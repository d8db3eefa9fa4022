//! A timer that a thread polls: it costs the thread that arms it a system call, and no thread is woken unless the
//! time is over. Called on any thread; blocks on nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes no pointer; returns a descriptor, or -1.
        let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if timer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(timer) }))
    }

    /// Makes the timer readable after `time`.
    pub(crate) fn arm(&self, time: Duration) {
        // A zero would disarm the timer.
        self.set(time.max(Duration::from_millis(1)));
    }

    pub(crate) fn disarm(&self) {
        self.set(Duration::ZERO);
    }

    fn set(&self, time: Duration) {
        let never = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = libc::itimerspec {
            it_interval: never,
            it_value: libc::timespec {
                tv_sec: time.as_secs().cast_signed(),
                tv_nsec: time.subsec_nanos().into(),
            },
        };
        // Cannot fail: the descriptor is a timer, and the time is one.
        // SAFETY: the structure lives during the call, and the old one is not asked for.
        _ = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const value, ptr::null_mut())
        };
    }

    /// Whether the time is over that was set last. Returns `true` once.
    pub(crate) fn is_over(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: eight bytes are read, or none if the timer was set anew.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
        read == 8
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
