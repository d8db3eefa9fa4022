//! How a child connects: an address for each child, and the two sockets that are accepted there.
//!
//! `open` and `accept_from` are called on scheduler threads; `accept` by the thread of the children. Nothing
//! blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use py_engine::lock::lock;

use super::pidfd;
use super::poller::Poller;
use super::socket::Socket;
use super::token::{Kind, token};
use super::worker::ProcessWorker;

/// The sockets that listen for children, by the ids of their workers. Locked for one operation.
#[derive(Default)]
pub(super) struct Listeners(Mutex<HashMap<u64, UnixListener>>);

impl Listeners {
    /// Listens for the child of a worker, and returns the address: an abstract one, which no file has, with
    /// a random name.
    pub(super) fn open(&self, worker: u64) -> io::Result<String> {
        let mut random = [0_u8; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let address = format!("erlang_python-{}-{random}", std::process::id());
        let name = SocketAddr::from_abstract_name(address.as_bytes())?;
        let listener = UnixListener::bind_addr(&name)?;
        listener.set_nonblocking(true)?;
        lock(&self.0).insert(worker, listener);
        Ok(address)
    }

    /// Begins to accept the sockets of a child, whose process is known now.
    pub(super) fn accept_from(
        &self,
        worker: &ProcessWorker,
        pid: u32,
        poller: &Poller,
    ) -> io::Result<()> {
        let process = pidfd::open(pid)?;
        let mut state = worker.state();
        poller.add(process.as_raw_fd(), token(worker.id, Kind::Process))?;
        state.process = Some(process);
        state.pid = Some(pid);
        drop(state);
        match lock(&self.0).get(&worker.id) {
            Some(listener) => poller.add(listener.as_raw_fd(), token(worker.id, Kind::Listener)),
            None => Ok(()),
        }
    }

    /// Accepts what has come for a worker: the first socket is `data`, the second `control`, after which
    /// nothing listens any more. A socket of another process is dropped.
    pub(super) fn accept(&self, worker: &Arc<ProcessWorker>, poller: &Poller) {
        loop {
            let accepted = lock(&self.0).get(&worker.id).map(UnixListener::accept);
            let Some(Ok((stream, _))) = accepted else {
                return;
            };
            let mut state = worker.state();
            if state.pid.is_none() || peer(&stream) != state.pid {
                continue;
            }
            let kind = if state.data.is_none() {
                Kind::Data
            } else {
                Kind::Control
            };
            let socket = Socket::new(stream, token(worker.id, kind), poller);
            // Without memory for a socket the child is not ready in time, and is killed.
            let Ok(socket) = socket.map(Arc::new) else {
                return;
            };
            if kind == Kind::Data {
                state.data = Some(socket);
            } else {
                state.control = Some(socket);
                drop(state);
                return self.close(worker.id, poller);
            }
        }
    }

    /// Listens no more for the child of a worker.
    pub(super) fn close(&self, worker: u64, poller: &Poller) {
        let listener = lock(&self.0).remove(&worker);
        if let Some(listener) = listener {
            poller.remove(listener.as_raw_fd());
        }
    }
}

/// Returns the process at the other end of a socket, if it has the user of this one.
fn peer(stream: &UnixStream) -> Option<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: `peer` has the size that is said.
    let done = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        let value = (&raw mut peer).cast();
        libc::getsockopt(stream.as_raw_fd(), level, option, value, &raw mut size)
    };
    // SAFETY: takes no pointer.
    let is_own = done == 0 && peer.uid == unsafe { libc::geteuid() };
    is_own.then(|| u32::try_from(peer.pid).ok()).flatten()
}
