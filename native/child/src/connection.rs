//! The two sockets to the VM, see [`py_codec::protocol`]. The main thread reads `data`, the control thread
//! `control`; any thread writes to `data`, one frame at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Mutex;

use py_codec::frame::FrameWriter;
use py_codec::protocol::{VERSION, from_child};
use py_engine::host::Wake;
use py_engine::lock::lock;

pub(crate) struct Connection {
    pub(crate) data: UnixStream,
    pub(crate) control: UnixStream,
    /// Held while a frame is written, so that frames do not mix. A write may block, as the VM reads.
    writing: Mutex<()>,
    /// Wakes the main thread from its wait for `data`.
    pub(crate) main: EventFd,
    /// Wakes the control thread.
    pub(crate) control_thread: EventFd,
}

impl Connection {
    /// Connects to the VM, and says the version of the protocol.
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(address.as_bytes())?;
        let connection = Self {
            data: UnixStream::connect_addr(&address)?,
            control: UnixStream::connect_addr(&address)?,
            writing: Mutex::default(),
            main: EventFd::new()?,
            control_thread: EventFd::new()?,
        };
        let mut hello = FrameWriter::new(from_child::HELLO);
        hello.word(VERSION);
        connection.send(&hello.finish())?;
        Ok(connection)
    }

    /// Sends a frame. Blocks while the socket is full: the VM always reads.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let _writing = lock(&self.writing);
        (&self.data).write_all(frame)
    }
}

/// Wakes a thread that polls. `wake` is called on any thread, and never blocks.
pub(crate) struct EventFd(File);

impl EventFd {
    fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; returns a descriptor, or -1.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and this `File` is its only owner.
        Ok(Self(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// Resets the descriptor. Called by the thread that has polled it.
    pub(crate) fn reset(&self) {
        // Fails with `EAGAIN` if nothing has woken the thread.
        let _: io::Result<usize> = (&self.0).read(&mut [0; 8]);
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // Fails only if the counter is at its maximum: the descriptor is readable then.
        let _: io::Result<usize> = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Blocks until one of the descriptors is readable or closed, or for `timeout` milliseconds, -1 for ever;
/// returns which are. A negative descriptor is left out.
pub(crate) fn poll<const N: usize>(descriptors: [RawFd; N], timeout: i32) -> [bool; N] {
    let mut polled = descriptors.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: `polled` has as many entries as its length says. A failure, `EINTR`, leaves no events.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
    polled.map(|polled| count > 0 && polled.revents != 0)
}

/// Reads what has come, without blocking. `Ok(0)`: the VM has gone.
pub(crate) fn receive(socket: &UnixStream, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the room is as long as is said.
    let count = unsafe {
        let data = room.as_mut_ptr().cast();
        libc::recv(socket.as_raw_fd(), data, room.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
