//! One socket to a child process, with the bytes that it has not taken yet.
//!
//! `send` is called on any thread, also by destructors, and never blocks; the thread of the children calls
//! `flush` when the socket has room again, and `receive`.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use py_engine::lock::lock;

use super::poller::Poller;

pub(super) struct Socket {
    stream: UnixStream,
    /// The number by which the poller names the socket.
    token: u64,
    out: Mutex<Out>,
}

/// The bytes that wait for room. Locked for a system call that does not block.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    start: usize,
    is_closed: bool,
}

impl Socket {
    pub(super) fn new(stream: UnixStream, token: u64, poller: &Poller) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        poller.add(stream.as_raw_fd(), token)?;
        let out = Mutex::default();
        Ok(Self { stream, token, out })
    }

    /// Sends a frame, or keeps what there is no room for. Does nothing if the child has gone.
    pub(super) fn send(&self, frame: &[u8], poller: &Poller) {
        let mut out = lock(&self.out);
        if out.is_closed {
            return;
        }
        if out.start < out.bytes.len() {
            out.bytes.extend_from_slice(frame);
            return;
        }
        let sent = self.write(frame).unwrap_or(0);
        if let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
            (out.bytes, out.start) = (rest.to_vec(), 0);
            poller.want_room(self.fd(), self.token, true);
        }
    }

    /// Sends what has waited for room. Called when there is some.
    pub(super) fn flush(&self, poller: &Poller) {
        let mut out = lock(&self.out);
        while out.start < out.bytes.len() {
            let rest = out.bytes.get(out.start..).unwrap_or_default();
            match self.write(rest) {
                Some(sent) if sent > 0 => out.start += sent,
                _ => return,
            }
        }
        (out.bytes, out.start) = (Vec::new(), 0);
        poller.want_room(self.fd(), self.token, false);
    }

    /// Writes without blocking; `None` if there is no room, or the child has gone.
    fn write(&self, bytes: &[u8]) -> Option<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes are as many as is said.
        let sent = unsafe { libc::send(self.fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        usize::try_from(sent).ok()
    }

    /// Reads what has come, without blocking. `Ok(0)`: the child has gone.
    pub(super) fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the room is as long as is said.
        let count = unsafe {
            let data = room.as_mut_ptr().cast();
            libc::recv(self.fd(), data, room.len(), libc::MSG_DONTWAIT)
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Drops what waits, and sends nothing more. Called when the child has gone.
    pub(super) fn close(&self, poller: &Poller) {
        let mut out = lock(&self.out);
        if !out.is_closed {
            poller.remove(self.fd());
        }
        *out = Out {
            is_closed: true,
            ..Out::default()
        };
    }

    fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}
