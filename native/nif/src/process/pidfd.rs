//! Descriptors of processes, which name no other process when the pid has been given to one. Called on any
//! thread; blocks on nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Returns a descriptor of a process.
pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: takes no pointer; returns a descriptor, or -1.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if process < 0 {
        return Err(io::Error::last_os_error());
    }
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new, and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(process) })
}

/// Kills the process of a descriptor, unless it has ended.
pub(super) fn kill(process: &OwnedFd) {
    // SAFETY: the descriptor is open, and no information goes with the signal.
    unsafe {
        let (fd, none) = (process.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, none, 0);
    }
}
