//! What a worker does at one moment, for `py:dump`. Called on dirty schedulers; the locks are held for a
//! look.

use rustler::Atom;
use std::sync::Arc;
use std::time::Duration;

use super::watched_thread::{Role, Task, WatchedThread};
use crate::atoms;
use crate::gil::{Turn, turn};
use crate::job::Job;
use crate::pool::{Lease, Pool};

/// A job that runs.
pub(crate) struct Running {
    /// Another number than that of any other job of the worker.
    pub(crate) key: u64,
    pub(crate) job: Arc<Job>,
    pub(crate) time: Duration,
}

/// What a worker does that serves a lease, or runs a job without one.
pub(crate) struct WorkerState {
    pub(crate) pool: Arc<Pool>,
    pub(crate) worker: u64,
    pub(crate) lease: Option<Arc<Lease>>,
    pub(crate) state: Atom,
    /// The jobs that run, each in the middle of the one before.
    pub(crate) calls: Vec<Running>,
    /// The jobs that go on as tasks of the event loop.
    pub(crate) tasks: Vec<Running>,
    /// `None` for a worker that does not share its GIL.
    pub(crate) turn: Option<Turn>,
}

impl WorkerState {
    /// Whether there may be Python code to look at.
    pub(crate) fn has_stacks(&self) -> bool {
        atoms::idle() != self.state || !self.tasks.is_empty()
    }
}

impl WatchedThread {
    /// Returns what the thread does; `None` for one that is no worker, or serves nobody.
    pub(crate) fn look(&self) -> Option<WorkerState> {
        let Role::Worker { id, pool, gil } = &self.role else {
            return None;
        };
        let state = self.state();
        let running = &state.tasks;
        let lease = running.iter().find_map(|running| running.task.lease());
        let lease = lease.or(state.serving.as_ref()).cloned();
        let calls = running.iter().filter_map(|running| match &running.task {
            Task::Job(job, _) => Some(Running {
                key: job_key(job),
                job: Arc::clone(job),
                time: running.since.elapsed(),
            }),
            Task::EventLoop(_) | Task::Cleaning(_) => None,
        });
        let calls: Vec<_> = calls.collect();
        let what = match running.last().map(|running| &running.task) {
            _ if self.thread.is_abandoned() => atoms::abandoned(),
            Some(Task::Job(..)) => atoms::running(),
            Some(Task::EventLoop(_)) => atoms::event_loop(),
            Some(Task::Cleaning(_)) => atoms::cleaning(),
            None => atoms::idle(),
        };
        drop(state);
        if lease.is_none() && calls.is_empty() {
            return None;
        }
        let turn = match turn(gil) {
            Turn::Holds if atoms::idle() == what => Turn::Neither,
            turn => turn,
        };
        let tasks = lease.as_ref().map(|lease| lease.in_flight().jobs());
        let tasks = tasks.into_iter().flatten().map(|(job, since)| Running {
            key: job_key(&job),
            job,
            time: since.elapsed(),
        });
        Some(WorkerState {
            pool: Arc::clone(pool),
            worker: *id,
            state: what,
            calls,
            tasks: tasks.collect(),
            turn: Some(turn),
            lease,
        })
    }

    /// Whether the thread serves a lease, and is no abandoned one.
    pub(crate) fn serves(&self, lease: &Lease) -> bool {
        let state = self.state();
        let serving = state.serving.as_ref();
        !self.thread.is_abandoned() && serving.is_some_and(|serving| serving.id == lease.id)
    }
}

/// Returns the key of a job for as long as that is referred to.
pub(crate) fn job_key(job: &Arc<Job>) -> u64 {
    Arc::as_ptr(job).addr() as u64
}
