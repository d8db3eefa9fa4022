//! The state of a worker: what its child has to do, and what the VM knows of it. Locked by
//! [`ProcessWorker`](super::worker::ProcessWorker) for an operation on it.

use rustler::LocalPid;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use py_codec::frame::Message;
use py_engine::host::fifo::Fifo;

use super::look::Receiver;
use super::socket::Socket;
use super::worker::ProcessWorker;
use crate::error::{Error, Exited};
use crate::job::Job;
use crate::pool::Lease;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Serving,
    Ending,
    Retired,
    Dying,
    Gone,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) data: Option<Arc<Socket>>,
    pub(super) control: Option<Arc<Socket>>,
    /// The process, by which it is killed; `None` before it is known.
    pub(super) process: Option<OwnedFd>,
    /// The pid that the sockets must belong to.
    pub(super) pid: Option<u32>,
    /// The jobs that the child has, by their numbers.
    pub(super) jobs: HashMap<u64, Sent>,
    pub(super) lease: Option<Arc<Lease>>,
    /// The job that the main thread of the child runs; those in the middle of it are not counted.
    pub(super) main: Option<u64>,
    /// Whether the child has a namespace for the lease.
    pub(super) has_namespace: bool,
    /// Requests to clean up that have no answer yet, and since when.
    pub(super) cleaning: usize,
    pub(super) cleaning_since: Option<Instant>,
    pub(super) cleaning_stops_at: Option<Instant>,
    /// The calls of Erlang that have no end yet: the id of `py_callback`, and the queue.
    pub(super) calls: HashMap<u64, Call>,
    /// The ids of the monitors of the child.
    pub(super) watches: HashSet<u64>,
    /// The requests for stacks that the child has not answered, by number, and since when each waits.
    pub(super) looks: HashMap<u64, (Receiver, Instant)>,
    /// The processes that wait for profiles, by number.
    pub(super) profiles: HashMap<u64, LocalPid>,
    /// Whether the code that must stop is in the middle of an import.
    pub(super) is_importing: bool,
    /// How many leases and jobs without one the child has served.
    pub(super) served: u64,
    pub(super) exited: Option<Exited>,
    /// The process has ended, and perhaps nothing says how.
    pub(super) has_ended: bool,
    /// The VM has killed the child: it serves nothing any more.
    pub(super) is_killed: bool,
    /// Why, if its exit status does not say it.
    pub(super) killed: Option<Exited>,
    pub(super) dying_since: Option<Instant>,
    pub(super) last_job: u64,
    /// The process of the job that came last: what no job has written goes there.
    pub(super) last_caller: Option<LocalPid>,
}

impl State {
    /// The state of a child that was not started yet.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Starting,
            data: None,
            control: None,
            process: None,
            pid: None,
            jobs: HashMap::new(),
            lease: None,
            main: None,
            has_namespace: false,
            cleaning: 0,
            cleaning_since: None,
            cleaning_stops_at: None,
            calls: HashMap::new(),
            watches: HashSet::new(),
            looks: HashMap::new(),
            profiles: HashMap::new(),
            is_importing: false,
            served: 0,
            exited: None,
            has_ended: false,
            is_killed: false,
            killed: None,
            dying_since: None,
            last_job: 0,
            last_caller: None,
        }
    }
}

impl State {
    /// Returns the process that a job runs for; that of the last job for 0, or for a job that has ended.
    pub(super) fn caller_of(&self, job: u64) -> Option<LocalPid> {
        let sent = self.jobs.get(&job);
        sent.map(|sent| sent.job.caller).or(self.last_caller)
    }
}

/// A job that the child has.
pub(super) struct Sent {
    pub(super) job: Arc<Job>,
    /// The call in the middle of which the job runs, or 0.
    pub(super) call: u64,
    pub(super) since: Instant,
    /// Set once the job was interrupted.
    pub(super) stop: Option<Stop>,
}

/// The time that a job has to stop in.
pub(super) struct Stop {
    pub(super) since: Instant,
    /// The same, or the end of an import.
    pub(super) restarted: Instant,
}

impl Stop {
    /// Gives the code more time.
    pub(super) fn postpone(&mut self, time: Duration) {
        self.since += time;
        self.restarted += time;
    }
}

/// A call of Erlang that waits in the child.
pub(super) struct Call {
    /// The id by which `py_callback` knows the call.
    pub(super) id: u64,
    /// The code waits on the main thread of the child.
    pub(super) is_main: bool,
    /// The jobs that wait for the one that runs in the middle of the call.
    pub(super) queue: Fifo<Arc<Job>>,
    /// A job runs in the middle of the call.
    pub(super) is_busy: bool,
    /// The answer, which waits for the jobs that came before it.
    pub(super) answer: Option<Message>,
}

/// A thing to do when the lock of the state is not held. `Refuse`, `Leave` and `Exited` send messages, so
/// only the thread of the children does them.
pub(super) enum After {
    Settle(Arc<Job>),
    Refuse(Arc<Job>, Error),
    Leave(Arc<Lease>),
    Release(Arc<ProcessWorker>),
    /// The exit status of a child has come.
    Exited(Arc<ProcessWorker>, Exited),
}
