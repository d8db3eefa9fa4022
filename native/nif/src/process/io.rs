//! The thread `py_process_io`, which reads what the children say, starts and ends their service, and
//! kills what does not stop. It never attaches; it sends replies and messages.
//!
//! `finish`, `wake` and the like are called on any thread, and never block; all else by the thread itself,
//! which blocks in the poller only.

use rustler::LocalPid;
use std::any::Any;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use py_codec::frame::FrameWriter;
use py_codec::protocol::to_child;
use py_engine::lock::lock;

use super::ending::{check, finish_dead};
use super::frames::handle;
use super::group::Group;
use super::poller::{Event, Poller};
use super::socket::Socket;
use super::state::{After, Phase};
use super::worker::ProcessWorker;
use crate::atoms;
use crate::error::{Error, Exited};
use crate::job::ReplyBuffer;
use crate::vm::{ProcessIo, VM, next_id, wake_process_io};

/// The token of the eventfd.
const WAKE: u64 = 0;
/// The last digit of the other tokens, which begin with the id of a worker.
const DATA: u64 = 0;
const CONTROL: u64 = 1;
const LISTENER: u64 = 2;
const KINDS: u64 = 3;

pub(super) struct Io {
    pub(super) poller: Poller,
    /// The eventfd that wakes the thread.
    eventfd: File,
    workers: Mutex<HashMap<u64, Arc<ProcessWorker>>>,
    listeners: Mutex<HashMap<u64, UnixListener>>,
    groups: Mutex<Vec<Arc<Group>>>,
    tasks: Mutex<Vec<After>>,
    has_tasks: AtomicBool,
    /// Children that clean up are watched.
    is_watching: AtomicBool,
}

impl ProcessIo for Io {
    fn wake(&self) {
        // Fails only if the counter is at its maximum: the thread is woken then.
        let _: io::Result<usize> = (&self.eventfd).write(&1_u64.to_ne_bytes());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Returns the thread's state; `None` before the thread was started.
fn find() -> Option<&'static Io> {
    VM.process_io.get()?.as_any().downcast_ref()
}

/// Returns the thread's state; starts the thread at the first call.
pub(super) fn start() -> io::Result<&'static Io> {
    VM.process_io.get_or_try_init(|| {
        let io = Io::new()?;
        let builder = thread::Builder::new().name("py_process_io".to_owned());
        // The thread waits until the state is set.
        builder.spawn(|| {
            VM.process_io.wait();
            if let Some(io) = find() {
                io.run();
            }
        })?;
        Ok::<_, io::Error>(Box::new(io) as Box<dyn ProcessIo>)
    })?;
    find().ok_or_else(|| io::Error::other("the thread of the child processes is missing"))
}

/// Returns every worker; none before the thread has started.
pub(super) fn workers() -> Vec<Arc<ProcessWorker>> {
    let workers = find().map(|io| lock(&io.workers).values().cloned().collect());
    workers.unwrap_or_default()
}

impl Io {
    fn new() -> io::Result<Self> {
        let poller = Poller::new()?;
        // SAFETY: takes no pointer; returns a descriptor, or -1.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and this `File` is its only owner.
        let eventfd = unsafe { File::from_raw_fd(descriptor) };
        poller.add(eventfd.as_raw_fd(), WAKE)?;
        Ok(Self {
            poller,
            eventfd,
            workers: Mutex::default(),
            listeners: Mutex::default(),
            groups: Mutex::default(),
            tasks: Mutex::default(),
            has_tasks: AtomicBool::new(false),
            is_watching: AtomicBool::new(false),
        })
    }

    /// Makes a worker, and an address at which its child will connect.
    pub(super) fn open(
        &'static self,
        group: &Arc<Group>,
    ) -> io::Result<(Arc<ProcessWorker>, String)> {
        let id = next_id();
        let mut random = [0_u8; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let address = format!("erlang_python-{}-{random}", std::process::id());
        let name = SocketAddr::from_abstract_name(address.as_bytes())?;
        let listener = UnixListener::bind_addr(&name)?;
        listener.set_nonblocking(true)?;
        let worker = ProcessWorker::new(id, group, self);
        lock(&self.workers).insert(id, Arc::clone(&worker));
        lock(&self.listeners).insert(id, listener);
        Ok((worker, address))
    }

    /// Begins to accept the sockets of a child, whose process is known now.
    pub(super) fn accept_from(&self, worker: &ProcessWorker, pid: u32) -> io::Result<()> {
        let pidfd = i32::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: takes no pointer; returns a descriptor, or -1.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pidfd, 0) };
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        let process = i32::try_from(process).map_err(io::Error::other)?;
        // SAFETY: the descriptor is new, and has no other owner.
        let process = unsafe { OwnedFd::from_raw_fd(process) };
        let mut state = worker.state();
        state.process = Some(process);
        state.pid = Some(pid);
        drop(state);
        match lock(&self.listeners).get(&worker.id) {
            Some(listener) => {
                let token = worker.id * KINDS + LISTENER;
                self.poller.add(listener.as_raw_fd(), token)
            }
            None => Ok(()),
        }
    }

    pub(super) fn watch(&self, group: &Arc<Group>) {
        lock(&self.groups).push(Arc::clone(group));
    }

    /// Does what is left, or leaves it to the thread.
    pub(super) fn finish(&self, after: Vec<After>) {
        let mut is_left = false;
        for task in after {
            match task {
                After::Settle(job) => job.settle(),
                task => {
                    lock(&self.tasks).push(task);
                    is_left = true;
                }
            }
        }
        if is_left && !self.has_tasks.swap(true, Ordering::SeqCst) {
            wake_process_io();
        }
    }

    /// Has the thread look at every job.
    pub(super) fn wake(&self) {
        wake_process_io();
    }

    /// Has the thread look at children that clean up, as long as there are some.
    pub(super) fn watch_cleaning(&self) {
        if !self.is_watching.swap(true, Ordering::SeqCst) {
            wake_process_io();
        }
    }

    /// Whether children that clean up have to be looked at; reset if `again` is false.
    pub(super) fn keep_watching(&self, again: bool) {
        self.is_watching.store(again, Ordering::SeqCst);
    }

    /// Removes a worker whose child has gone.
    pub(super) fn forget(&self, id: u64) {
        lock(&self.workers).remove(&id);
        self.forget_listener(id);
    }

    fn forget_listener(&self, id: u64) {
        let listener = lock(&self.listeners).remove(&id);
        if let Some(listener) = listener {
            self.poller.remove(listener.as_raw_fd());
        }
    }

    fn worker(&self, id: u64) -> Option<Arc<ProcessWorker>> {
        lock(&self.workers).get(&id).cloned()
    }

    fn run(&'static self) {
        let mut replies = ReplyBuffer::new();
        let mut deadline: Option<Instant> = None;
        loop {
            let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let events = self.poller.wait(timeout);
            let mut is_woken = timeout.is_some_and(|timeout| timeout.is_zero());
            for event in events {
                if event.token == WAKE {
                    is_woken = true;
                    // Fails with `EAGAIN` if it was reset before.
                    let _: io::Result<usize> = (&self.eventfd).read(&mut [0; 8]);
                } else {
                    self.happened(event, &mut replies);
                }
            }
            self.run_tasks(&mut replies);
            if is_woken || deadline.is_some_and(|at| at <= Instant::now()) {
                deadline = self.check_all(&mut replies);
                self.run_tasks(&mut replies);
            }
        }
    }

    /// Looks at every worker; returns when to look again.
    fn check_all(&self, replies: &mut ReplyBuffer) -> Option<Instant> {
        let now = Instant::now();
        let all: Vec<_> = lock(&self.workers).values().cloned().collect();
        let mut is_cleaning = false;
        let mut again: Option<Instant> = None;
        for worker in all {
            let next = check(&worker, now, replies);
            is_cleaning |= worker.state().cleaning > 0;
            again = [again, next].into_iter().flatten().min();
        }
        self.keep_watching(is_cleaning);
        lock(&self.groups).retain(|group| {
            if !group.is_closed() {
                return true;
            }
            for worker in group.take_ready() {
                let mut state = worker.state();
                state.phase = Phase::Retired;
                self.retire(&worker, &mut state);
            }
            false
        });
        again
    }

    /// Tells a child to end, and kills it if it has not ended after a second.
    fn retire(&self, worker: &ProcessWorker, state: &mut super::state::State) {
        worker.send_data(state, &FrameWriter::new(to_child::EXIT).finish());
        state.dying_since = Some(Instant::now());
        wake_process_io();
    }

    fn run_tasks(&self, replies: &mut ReplyBuffer) {
        while self.has_tasks.swap(false, Ordering::SeqCst) {
            // A task may add others: the lock is not held in the loop.
            let tasks = std::mem::take(&mut *lock(&self.tasks));
            for task in tasks {
                self.run_task(task, replies);
            }
        }
    }

    fn run_task(&self, task: After, replies: &mut ReplyBuffer) {
        match task {
            After::Settle(job) => job.settle(),
            After::Refuse(job, error) => replies.refuse(&job, error),
            After::Leave(lease) => lease.leave(replies, || Error::ContextNotBound),
            After::Release(worker) => {
                let Some(group) = worker.group.upgrade() else {
                    return;
                };
                if group.release(&worker) {
                    self.retire(&worker, &mut worker.state());
                    notify(&worker, replies, Note::Retired);
                }
            }
            After::Exited(worker, exited) => {
                worker.state().exited = Some(exited);
                let is_dying = worker.state().phase == Phase::Dying;
                if is_dying || worker.state().data.is_none() {
                    finish_dead(&worker, replies);
                }
            }
        }
    }

    fn happened(&'static self, event: Event, replies: &mut ReplyBuffer) {
        let Some(worker) = self.worker(event.token / KINDS) else {
            return;
        };
        let kind = event.token % KINDS;
        if kind == LISTENER {
            return self.accept(&worker);
        }
        let (data, control) = {
            let state = worker.state();
            (state.data.clone(), state.control.clone())
        };
        let socket = if kind == DATA { data } else { control };
        let Some(socket) = socket else { return };
        if event.has_room {
            socket.flush(&self.poller);
        }
        if !event.is_readable {
            return;
        }
        if kind == CONTROL {
            // A child says nothing there: it has gone, or breaks the protocol.
            let is_broken = socket.receive(&mut [0; 1]).is_ok_and(|count| count > 0);
            return self.lost(&worker, is_broken, replies);
        }
        self.read(&worker, &socket, replies);
    }

    /// Reads what has come, and handles each whole frame.
    fn read(&self, worker: &Arc<ProcessWorker>, socket: &Socket, replies: &mut ReplyBuffer) {
        let mut inbox = std::mem::take(&mut *lock(&worker.inbox));
        let come = inbox.receive(|room| socket.receive(room));
        let is_lost = match come {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let is_broken = loop {
            match inbox.next_frame() {
                Ok(Some((kind, payload))) => {
                    if handle(worker, kind, payload, replies).is_none() {
                        break true;
                    }
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        *lock(&worker.inbox) = inbox;
        if is_broken || is_lost {
            self.lost(worker, is_broken, replies);
        }
    }

    /// Handles the loss of a child. Its jobs are replied to when its exit status has come.
    fn lost(&self, worker: &Arc<ProcessWorker>, is_broken: bool, replies: &mut ReplyBuffer) {
        let mut state = worker.state();
        let why = is_broken.then_some(Exited::Malformed);
        worker.kill(&mut state, why);
        for socket in [state.data.clone(), state.control.clone()]
            .into_iter()
            .flatten()
        {
            socket.close(&self.poller);
        }
        if state.phase == Phase::Gone {
            return;
        }
        let was_serving = matches!(state.phase, Phase::Serving | Phase::Ending);
        state.phase = Phase::Dying;
        state.dying_since = Some(Instant::now());
        let is_known = state.exited.is_some() || state.killed.is_some();
        drop(state);
        if let Some(group) = worker.group.upgrade() {
            group.remove(worker);
            if was_serving {
                group.leave();
            }
        }
        if is_known {
            finish_dead(worker, replies);
        } else {
            wake_process_io();
        }
    }

    /// Accepts a socket: the first is `data`, the second `control`. Others, and those of another process,
    /// are dropped.
    fn accept(&self, worker: &Arc<ProcessWorker>) {
        let accepted = lock(&self.listeners)
            .get(&worker.id)
            .map(UnixListener::accept);
        let Some(Ok((stream, _))) = accepted else {
            return;
        };
        let mut state = worker.state();
        if peer(&stream) != state.pid {
            return;
        }
        let kind = if state.data.is_none() { DATA } else { CONTROL };
        let socket = Socket::new(stream, worker.id * KINDS + kind, &self.poller);
        // Without memory for a socket the child is not ready in time, and is killed.
        let Ok(socket) = socket.map(Arc::new) else {
            return;
        };
        if kind == DATA {
            state.data = Some(socket);
        } else {
            state.control = Some(socket);
            drop(state);
            self.forget_listener(worker.id);
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

/// What the manager of a pool is told of a child.
pub(super) enum Note<'a> {
    Ready,
    Failed(&'a str),
    /// The child was told to end, since it is worn.
    Retired,
    Exited(Exited),
}

/// Notifies the manager of the pool of a child.
pub(super) fn notify(worker: &ProcessWorker, replies: &mut ReplyBuffer, note: Note<'_>) {
    let group = worker.group.upgrade();
    let Some(pool) = group.and_then(|group| group.pool()) else {
        return;
    };
    let to: &LocalPid = &pool.manager;
    let (tag, id) = (atoms::py_child(), worker.id);
    match note {
        Note::Ready => replies.notify(to, (tag, id, atoms::ready())),
        Note::Failed(text) => replies.notify(to, (tag, id, (atoms::failed(), text))),
        Note::Retired => replies.notify(to, (tag, id, atoms::retired())),
        Note::Exited(exited) => replies.notify(to, (tag, id, (atoms::exited(), exited))),
    }
}

/// How long the exit status of a child may take, and a child that was told to end.
pub(super) const END_GRACE: Duration = Duration::from_secs(1);
