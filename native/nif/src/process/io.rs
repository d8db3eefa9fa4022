//! The thread `py_process_io`, which reads what the children say, starts and ends their service, and
//! kills what does not stop. It never attaches; it sends replies and messages.
//!
//! `open`, `finish`, `wake` and the like are called on any thread, and never block; all else by the thread
//! itself, which blocks in the poller only. A panic while it serves a child ends that child.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use py_engine::host::Wake;
use py_engine::lock::lock;
use py_engine::wake_fd::WakeFd;

use super::accept::Listeners;
use super::ending::{check, check_memory, finish_dead, lost, process_ended, retire};
use super::group::Group;
use super::notice::{Note, notify};
use super::poller::{Event, Poller};
use super::reading::read;
use super::state::{After, Phase};
use super::token::{Kind, WAKE, parts};
use super::worker::ProcessWorker;
use crate::error::{Error, Exited};
use crate::job::ReplyBuffer;
use crate::vm::{ProcessIo, VM, next_id};

pub(super) struct Io {
    pub(super) poller: Poller,
    pub(super) listeners: Listeners,
    /// Wakes the thread.
    waker: WakeFd,
    workers: Mutex<HashMap<u64, Arc<ProcessWorker>>>,
    groups: Mutex<Vec<Arc<Group>>>,
    /// Things to do on the thread, which sends.
    tasks: Mutex<Vec<After>>,
    has_tasks: AtomicBool,
    /// The thread looks at children that clean up, or was woken for it.
    is_watching: AtomicBool,
    /// When the thread was started.
    pub(super) since: Instant,
}

impl ProcessIo for Io {
    fn wake(&self) {
        self.waker.wake();
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
    find().map(Io::workers).unwrap_or_default()
}

impl Io {
    fn new() -> io::Result<Self> {
        let (poller, waker) = (Poller::new()?, WakeFd::new()?);
        poller.add(waker.as_raw_fd(), WAKE)?;
        Ok(Self {
            poller,
            listeners: Listeners::default(),
            waker,
            workers: Mutex::default(),
            groups: Mutex::default(),
            tasks: Mutex::default(),
            has_tasks: AtomicBool::new(false),
            is_watching: AtomicBool::new(false),
            since: Instant::now(),
        })
    }

    /// Makes a worker, and an address at which its child has to connect.
    pub(super) fn open(
        &'static self,
        group: &Arc<Group>,
    ) -> io::Result<(Arc<ProcessWorker>, String)> {
        let id = next_id();
        let address = self.listeners.open(id)?;
        let worker = ProcessWorker::new(id, group, self);
        lock(&self.workers).insert(id, Arc::clone(&worker));
        Ok((worker, address))
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
            self.wake();
        }
    }

    /// Has the thread look at children that clean up. Seldom costs a system call: the thread looks again
    /// as long as there are some.
    pub(super) fn watch_cleaning(&self) {
        if !self.is_watching.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Removes a worker whose child has gone.
    pub(super) fn forget(&self, id: u64) {
        lock(&self.workers).remove(&id);
        self.listeners.close(id, &self.poller);
    }

    fn workers(&self) -> Vec<Arc<ProcessWorker>> {
        lock(&self.workers).values().cloned().collect()
    }

    fn run(&'static self) {
        let mut replies = ReplyBuffer::new();
        let mut deadline: Option<Instant> = None;
        loop {
            let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut events = self.poller.wait(timeout);
            // A child may say something as soon as it has connected: it is accepted first.
            events.sort_by_key(|event| parts(event.token).1 != Kind::Listener);
            let mut is_woken = false;
            for event in events {
                if event.token == WAKE {
                    is_woken = true;
                    self.waker.reset();
                } else {
                    self.happened(event, &mut replies);
                }
            }
            self.run_tasks(&mut replies);
            if is_woken || deadline.is_some_and(|at| at <= Instant::now()) {
                let late = deadline.map_or(Duration::ZERO, |at| at.elapsed());
                deadline = self.check_all(late, &mut replies);
                self.run_tasks(&mut replies);
            }
        }
    }

    /// Looks at every worker, `late` after it should; returns when to look again.
    fn check_all(&self, late: Duration, replies: &mut ReplyBuffer) -> Option<Instant> {
        let now = Instant::now();
        // Reset first: a clean-up that begins from here on wakes the thread.
        self.is_watching.store(false, Ordering::SeqCst);
        let mut is_cleaning = false;
        let mut again: Option<Instant> = None;
        for worker in self.workers() {
            let mut next = [None; 2];
            guard(&worker, replies, |replies| {
                next = [
                    check_memory(&worker, now),
                    check(&worker, now, late, replies),
                ]
            });
            is_cleaning |= worker.state().cleaning > 0;
            again = next.into_iter().chain([again]).flatten().min();
        }
        if is_cleaning {
            // `again` is within the grace, so later clean-ups need not wake the thread.
            self.is_watching.store(true, Ordering::SeqCst);
        }
        let mut closed = lock(&self.groups).clone();
        closed.retain(|group| group.is_closed());
        for group in closed {
            group.end(replies);
            lock(&self.groups).retain(|other| !Arc::ptr_eq(other, &group));
        }
        again
    }

    fn run_tasks(&self, replies: &mut ReplyBuffer) {
        while self.has_tasks.swap(false, Ordering::SeqCst) {
            // A task may add others: the lock is not held in the loop.
            let tasks = std::mem::take(&mut *lock(&self.tasks));
            for task in tasks {
                // A panic loses this task alone.
                if catch_unwind(AssertUnwindSafe(|| self.run_task(task, replies))).is_err() {
                    replies.clear();
                }
            }
        }
    }

    fn run_task(&self, task: After, replies: &mut ReplyBuffer) {
        match task {
            After::Settle(job) => job.settle(),
            After::Refuse(job, error) => replies.refuse(&job, error),
            After::Leave(lease) => lease.leave(replies, || Error::ContextNotBound),
            After::Release(worker) => {
                // Nobody has the group of a closed pool any more.
                let group = worker.group.upgrade();
                if group.is_none_or(|group| group.release(&worker)) {
                    retire(&worker);
                    notify(&worker, replies, Note::Retired);
                }
            }
            After::Exited(worker, exited) => {
                let mut state = worker.state();
                state.exited = Some(exited);
                let is_lost = state.phase == Phase::Dying || state.data.is_none();
                drop(state);
                if is_lost {
                    finish_dead(&worker, replies);
                }
            }
        }
    }

    fn happened(&self, event: Event, replies: &mut ReplyBuffer) {
        let (id, kind) = parts(event.token);
        let worker = lock(&self.workers).get(&id).cloned();
        let Some(worker) = worker else { return };
        guard(&worker, replies, |replies| {
            let socket = match kind {
                Kind::Listener => return self.listeners.accept(&worker, &self.poller),
                Kind::Process => return process_ended(&worker),
                Kind::Data => worker.state().data.clone(),
                Kind::Control => worker.state().control.clone(),
            };
            let Some(socket) = socket else { return };
            if event.has_room {
                socket.flush(&self.poller);
            }
            if !event.is_readable {
                return;
            }
            if kind == Kind::Data {
                return read(&worker, &socket, replies);
            }
            // A child says nothing on `control`: it has gone, or breaks the protocol.
            let is_broken = socket
                .receive(&mut [0; 1])
                .is_ok_and(|received| received.count > 0);
            lost(&worker, is_broken.then_some(Exited::Malformed), replies);
        });
    }
}

/// Runs `body`, which serves a child. A panic in it ends the child.
fn guard(
    worker: &Arc<ProcessWorker>,
    replies: &mut ReplyBuffer,
    body: impl FnOnce(&mut ReplyBuffer),
) {
    if catch_unwind(AssertUnwindSafe(|| body(replies))).is_err() {
        replies.clear();
        let ended = || lost(worker, Some(Exited::Malformed), replies);
        // A second panic leaves the child to the next look at it: it was killed.
        let (Ok(()) | Err(_)) = catch_unwind(AssertUnwindSafe(ended));
    }
}
