//! One socket to a child process, with the bytes that it has not taken yet.
//!
//! `send` is called on any thread, also by destructors, and never blocks; the thread of the children calls
//! `flush` when the socket has room again, and `receive`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use py_codec::frame::Message;
use py_codec::memory::{self, Received};
use py_engine::lock::lock;

use super::poller::Poller;

pub(super) struct Socket {
    stream: UnixStream,
    /// The number by which the poller names the socket.
    token: u64,
    out: Mutex<Out>,
}

/// The frames that wait for room. Locked for a system call that does not block.
#[derive(Default)]
struct Out {
    frames: VecDeque<Message>,
    /// How many bytes of the first frame were sent.
    sent: usize,
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
    pub(super) fn send(&self, frame: Message, poller: &Poller) {
        let mut out = lock(&self.out);
        if out.is_closed {
            return;
        }
        let is_first = out.frames.is_empty();
        out.frames.push_back(frame);
        if is_first && !self.write(&mut out) {
            poller.want_room(self.fd(), self.token, true);
        }
    }

    /// Sends what has waited for room. Called when there is some.
    pub(super) fn flush(&self, poller: &Poller) {
        let mut out = lock(&self.out);
        if self.write(&mut out) {
            poller.want_room(self.fd(), self.token, false);
        }
    }

    /// Writes without blocking; returns `false` if something is left, since there is no room, or the
    /// child has gone.
    fn write(&self, out: &mut Out) -> bool {
        let Out {
            frames, sent: done, ..
        } = out;
        while let Some(frame) = frames.front_mut() {
            let rest = frame.bytes.get(*done..).unwrap_or_default();
            let descriptor = frame.descriptor.as_ref().filter(|_| *done == 0);
            let descriptor = descriptor.map(AsFd::as_fd);
            let flags = libc::MSG_DONTWAIT;
            match memory::send(self.stream.as_fd(), rest, descriptor, flags) {
                Ok(sent) if sent < rest.len() => *done += sent,
                Ok(_) => {
                    *done = 0;
                    frames.pop_front();
                }
                // The user has too many descriptors in flight, or may pass none.
                Err(error) if descriptor.is_some() && memory::is_of_descriptor(&error) => {
                    let Ok(bytes) = frame.inline() else {
                        return false;
                    };
                    let descriptor = None;
                    *frame = Message { bytes, descriptor };
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads what has come, without blocking. A count of 0: the child has gone.
    pub(super) fn receive(&self, room: &mut [u8]) -> io::Result<Received> {
        memory::receive(self.stream.as_fd(), room)
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
