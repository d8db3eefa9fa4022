//! The child processes of one pool: which are free, and who serves the next item of the queue.
//!
//! Called on scheduler threads, and by the thread of the children; the lock is held for a few
//! instructions, and no other is taken under it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use py_engine::lock::lock;

use super::ending::retire;
use super::memory_use::resident;
use super::notice::{Note, notify};
use super::state::Phase;
use super::worker::ProcessWorker;
use crate::job::ReplyBuffer;
use crate::pool::{Pool, Processes, Work};

pub(crate) struct Group {
    pool: Weak<Pool>,
    pub(super) limits: GroupLimits,
    state: Mutex<State>,
    /// How often a module was reloaded in the pool.
    generation: AtomicU64,
}

/// What the children of a pool may take.
#[derive(Clone, Copy)]
pub(crate) struct GroupLimits {
    /// How many children serve at once; there are more, as spares.
    pub(crate) size: usize,
    /// How long code may go on that has to stop, before its child is killed.
    pub(crate) grace: Duration,
    /// The same for an import that has begun.
    pub(crate) import_grace: Duration,
    /// Leases, and jobs without one, after which a child is replaced; 0 for no bound.
    pub(crate) max_jobs: u64,
    /// Bytes of resident memory above which a child is replaced after a lease; 0 for no bound.
    pub(crate) max_rss: u64,
    /// Bytes of memory, with that of its own children, above which a child is killed; 0 for no bound.
    pub(crate) memory: u64,
}

#[derive(Default)]
struct State {
    ready: Vec<Arc<ProcessWorker>>,
    /// How many children serve.
    busy: usize,
    /// Work for a child that had gone. Comes before the pool's queue.
    stranded: VecDeque<Work>,
    /// The modules that were reloaded, each once, with the generation of its last reload.
    reloaded: Vec<(u64, String)>,
}

impl Group {
    pub(super) fn new(pool: &Arc<Pool>, limits: GroupLimits) -> Arc<Self> {
        let pool = Arc::downgrade(pool);
        let state = Mutex::default();
        Arc::new(Self {
            pool,
            limits,
            state,
            generation: AtomicU64::new(0),
        })
    }

    /// Returns how often a module was reloaded in the pool.
    pub(super) fn reloads(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Returns the modules that were reloaded after a generation.
    pub(super) fn reloaded_after(&self, generation: u64) -> Vec<String> {
        let state = lock(&self.state);
        let later = state.reloaded.iter().filter(|(at, _)| *at > generation);
        later.map(|(_, name)| name.clone()).collect()
    }

    pub(super) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.upgrade()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pool().is_none_or(|pool| pool.is_closed())
    }

    /// Adds a child that is ready, for the first time or again.
    pub(super) fn add(&self, worker: &Arc<ProcessWorker>) {
        lock(&self.state).ready.push(Arc::clone(worker));
        self.call_next();
    }

    /// Ends the service of a child, which is ready again, or retires. Called by the thread of the
    /// children; returns `true` if the child has to be replaced.
    pub(super) fn release(&self, worker: &Arc<ProcessWorker>) -> bool {
        let mut state = worker.state();
        if state.is_killed || state.phase != Phase::Serving && state.phase != Phase::Ending {
            // The end of the process goes on where its sockets close.
            return false;
        }
        state.main = None;
        let GroupLimits {
            max_jobs, max_rss, ..
        } = self.limits;
        let is_worn = max_jobs > 0 && state.served >= max_jobs
            || max_rss > 0 && state.pid.is_some_and(|pid| resident(pid) > max_rss);
        let retires = is_worn || self.is_closed();
        state.phase = if retires {
            Phase::Retired
        } else {
            Phase::Ready
        };
        drop(state);
        if !retires {
            lock(&self.state).ready.push(Arc::clone(worker));
        }
        self.leave();
        retires
    }

    /// Counts a child as one that does not serve any more.
    pub(super) fn leave(&self) {
        {
            let mut state = lock(&self.state);
            state.busy = state.busy.saturating_sub(1);
        }
        self.call_next();
    }

    /// Removes a child that has gone.
    pub(super) fn remove(&self, worker: &Arc<ProcessWorker>) {
        lock(&self.state)
            .ready
            .retain(|other| !Arc::ptr_eq(other, worker));
    }

    /// Ends the children that are ready, and refuses what none has served. Called by the thread of the
    /// children when the pool has closed; sends.
    pub(super) fn end(&self, replies: &mut ReplyBuffer) {
        let State {
            ready, stranded, ..
        } = std::mem::take(&mut *lock(&self.state));
        for worker in ready {
            retire(&worker);
            notify(&worker, replies, Note::Retired);
        }
        for work in stranded {
            work.refuse(replies);
        }
    }

    fn call_next(&self) {
        if let Some(pool) = self.pool() {
            self.call_one(&pool);
        }
    }

    /// Takes a child that is ready, if another may serve, and an item of the queue.
    fn next(&self, pool: &Pool) -> Option<(Arc<ProcessWorker>, Work)> {
        let mut state = lock(&self.state);
        if pool.is_closed() || state.busy >= self.limits.size || state.ready.is_empty() {
            return None;
        }
        let work = state.stranded.pop_front().or_else(|| pool.take())?;
        let worker = state.ready.pop()?;
        state.busy += 1;
        Some((worker, work))
    }
}

impl Processes for Group {
    fn reload(&self, module: &str) {
        let mut state = lock(&self.state);
        // Counted under the lock: who reads the new number finds the name.
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        state.reloaded.retain(|(_, name)| name != module);
        state.reloaded.push((generation, module.to_owned()));
    }

    fn call_one(&self, pool: &Arc<Pool>) {
        while let Some((worker, work)) = self.next(pool) {
            if let Err(work) = worker.serve(work) {
                let mut state = lock(&self.state);
                state.busy = state.busy.saturating_sub(1);
                state.stranded.push_back(work);
            }
        }
    }
}
