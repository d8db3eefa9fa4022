//! Pools of child processes: a worker is a child of the VM, and its jobs are frames on a socket.
//!
//! A submitting scheduler writes the frame of a job itself, if the child has nothing else to do, and the
//! thread `py_process_io` reads the replies: no Erlang process stands on the path. The child is started by
//! `py_children` through a port, so that the VM reaps it. See `docs/internals/processes.md`.
//!
//! Layout: `poller`, `token`, `socket`, `accept`, `terms`, `request`, `pidfd` and `memory_use` know
//! one thing each; `group` has the
//! workers of a pool, `worker` is one, with its `state` and the jobs that are `nested` in a call; `call` is a
//! call of Erlang; `frames`, `questions` and `reply` handle what a child says, `look` asks it for stacks,
//! `ending` handles what does not stop, `notice` tells the manager of the pool, and `io` is the thread; `nifs` has the NIFs. The functions here are
//! called by NIFs, on scheduler threads.

mod accept;
mod call;
mod ending;
mod frames;
mod group;
mod io;
mod look;
mod memory;
mod memory_use;
mod nested;
mod nifs;
mod notice;
mod output;
mod pidfd;
mod poller;
mod questions;
mod reading;
mod reply;
mod request;
mod socket;
mod state;
mod terms;
mod token;
mod worker;

use rustler::{Resource, ResourceArc};
use std::io::Result;
use std::sync::Arc;

use crate::error::Exited;
use crate::job::Job;
use crate::pool::{Lease, Pool};
use crate::vm::wake_process_io;
use group::{Group, GroupLimits};
use state::{After, Phase};
use worker::ProcessWorker;

pub(crate) use look::{Receiver, look};

/// Has child processes serve a pool.
pub(crate) fn open(pool: &Arc<Pool>, limits: GroupLimits) -> Result<Arc<Group>> {
    let io = io::start()?;
    let group = Group::new(pool, limits);
    pool.serve_by(Arc::clone(&group) as _);
    io.watch(&group);
    Ok(group)
}

/// The handle of `py_children` on the children of a pool.
pub(crate) struct GroupHandle(pub(crate) Arc<Group>);

#[rustler::resource_impl]
impl Resource for GroupHandle {}

/// The handle of `py_children` on a child.
pub(crate) struct ChildHandle {
    worker: Arc<ProcessWorker>,
}

#[rustler::resource_impl]
impl Resource for ChildHandle {}

impl Drop for ChildHandle {
    /// The children of a closed pool empty their namespaces, which closes streams and files, and end: the thread
    /// of the children sees to that. A child that has not started, or whose manager was killed, is killed.
    fn drop(&mut self) {
        let phase = self.worker.state().phase;
        let has_started = !matches!(phase, Phase::Starting | Phase::Dying | Phase::Gone);
        let group = self.worker.group.upgrade();
        if !has_started || group.is_some_and(|group| !group.is_closed()) {
            self.kill();
        }
    }
}

impl ChildHandle {
    /// Makes a child, and returns the address at which it has to connect.
    pub(crate) fn open(group: &Arc<Group>) -> Result<(ResourceArc<Self>, String)> {
        let (worker, address) = io::start()?.open(group)?;
        Ok((ResourceArc::new(Self { worker }), address))
    }

    pub(crate) fn id(&self) -> u64 {
        self.worker.id
    }

    /// Accepts the sockets of the process.
    pub(crate) fn accept_from(&self, pid: u32) -> Result<()> {
        let io = self.worker.io;
        io.listeners.accept_from(&self.worker, pid, &io.poller)?;
        if self.worker.limits.memory > 0 {
            // The first look at the memory of the child.
            wake_process_io();
        }
        Ok(())
    }

    /// Passes the exit status of the process on.
    pub(crate) fn exited(&self, exited: Exited) {
        let after = After::Exited(Arc::clone(&self.worker), exited);
        self.worker.io.finish(vec![after]);
    }

    pub(crate) fn kill(&self) {
        self.worker.kill(&mut self.worker.state(), None);
        // No port may be left that tells the end of the process.
        wake_process_io();
    }
}

/// Interrupts the jobs of the first child that has one which `matches` accepts; `true` if a caller will
/// get `interrupted`.
pub(crate) fn interrupt(matches: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
    let found = io::workers().iter().any(|worker| {
        let state = worker.state();
        let lease = state.lease.as_deref();
        let jobs = state.jobs.values().filter(|sent| matches(&sent.job, lease));
        // `count` visits every job: a process may have several under way.
        jobs.filter(|sent| sent.job.ticket.interrupt()).count() > 0
    });
    if found {
        wake_process_io();
    }
    found
}
