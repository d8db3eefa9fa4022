//! The two sockets to the VM, see [`py_codec::protocol`]. The main thread reads `data`, the control thread
//! `control`; any thread writes to `data`, one frame at a time.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Mutex;

use py_codec::frame::{FrameWriter, Message};
use py_codec::memory;
use py_codec::protocol::{VERSION, from_child};
use py_engine::lock::lock;
use py_engine::wake_fd::WakeFd;

pub(crate) struct Connection {
    pub(crate) data: UnixStream,
    pub(crate) control: UnixStream,
    /// Held while a frame is written, so that frames do not mix. A write may block, as the VM reads.
    writing: Mutex<()>,
    /// Wakes the main thread from its wait for `data`.
    pub(crate) main: WakeFd,
    /// Wakes the control thread.
    pub(crate) control_thread: WakeFd,
}

impl Connection {
    /// Connects to the VM, and says the version of the protocol.
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(address.as_bytes())?;
        let connection = Self {
            data: UnixStream::connect_addr(&address)?,
            control: UnixStream::connect_addr(&address)?,
            writing: Mutex::default(),
            main: WakeFd::new()?,
            control_thread: WakeFd::new()?,
        };
        let mut hello = FrameWriter::new(from_child::HELLO);
        hello.word(VERSION);
        connection.send(&hello.finish())?;
        Ok(connection)
    }

    /// Sends a frame. Blocks while the socket is full: the VM always reads.
    pub(crate) fn send(&self, frame: &Message) -> io::Result<()> {
        let _writing = lock(&self.writing);
        let mut descriptor = frame.descriptor.as_ref().map(AsFd::as_fd);
        let mut whole: Vec<u8>;
        let mut rest = &frame.bytes[..];
        while !rest.is_empty() {
            match memory::send(self.data.as_fd(), rest, descriptor, 0) {
                Ok(sent) => {
                    descriptor = None;
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The user has too many descriptors in flight, or may pass none.
                Err(error) if descriptor.is_some() && memory::is_of_descriptor(&error) => {
                    whole = frame.inline()?;
                    (descriptor, rest) = (None, &whole[..]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
