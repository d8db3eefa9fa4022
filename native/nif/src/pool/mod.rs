//! The pool: the queue, the leases and the counters that the workers of one application start
//! share. Made by `py_pool`; closed when `py_pool` stops, dies, or drops its handle.
//!
//! States of a pool: open, then closed for good. A closed pool refuses jobs and leases, and its
//! workers end when they are idle.
//!
//! Called on scheduler threads, workers and the watchdog; nothing blocks for longer than a push
//! into a queue. Only `refuse_excess` sends, so it is not called on a scheduler thread.

use std::collections::HashMap;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use rustler::{Atom, LocalPid};

use py_engine::lock::lock;

use crate::error::Error;
use crate::gil::{self, IdleWorkers, RunQueue};
use crate::job::{Job, Pending, ReplyBuffer};
use crate::vm::{next_id, notify_watchdog};

mod handles;
mod lease;
mod queue;
mod submission;
mod target;
mod usage;
mod work;

pub(crate) use handles::{Context, LeaseHandle, PoolHandle};
pub(crate) use lease::{Lease, LeaseWorker, Owner, ServeLease};
use queue::Queue;
pub(crate) use submission::{JobQueue, Submission, SubmissionHandle};
pub(crate) use target::{Target, lease_of};
pub(crate) use usage::End;
pub(crate) use work::Work;

/// The child processes of a pool, which serve its queue.
pub(crate) trait Processes: Send + Sync + RefUnwindSafe {
    /// Has a process that is free take from the queue. Called on any thread after a push, or when the
    /// pool has closed; never blocks, and sends no message.
    fn call_one(&self, pool: &Arc<Pool>);
    /// Has each process load a module anew before its next job, if it has the module.
    fn reload(&self, module: &str);
}

pub(crate) struct Pool {
    pub(crate) name: Atom,
    /// The number of workers, and so of leases.
    size: AtomicUsize,
    /// The ids of the workers that were abandoned and not replaced.
    missing: Mutex<Vec<u64>>,
    /// Python threads that a lease or an unbound call has left running.
    pub(crate) left_threads: AtomicUsize,
    leased: AtomicUsize,
    /// How many leases there have been.
    pub(crate) leases_made: AtomicUsize,
    closed: AtomicBool,
    pub(crate) pending: Arc<Pending>,
    queue: Queue<Work>,
    idle_workers: IdleWorkers,
    /// Set once, before the first job, for a pool of child processes; threads serve any other.
    processes: OnceLock<Arc<dyn Processes>>,
    /// The `py_pool` process that made this pool.
    pub(crate) manager: LocalPid,
    /// The leases that no worker has left yet, by id. Locked for one operation on the map, never
    /// while attaching.
    leases: Mutex<HashMap<u64, Weak<Lease>>>,
    /// Leases that were ended by a destructor, which cannot send: the watchdog notifies `py_pool`.
    /// Locked for a push, or to take them all.
    unreported_ends: Mutex<Vec<Arc<Lease>>>,
}

impl Pool {
    pub(crate) fn new(name: Atom, size: usize, max_pending: usize, manager: LocalPid) -> Arc<Self> {
        // Jobs are bounded by `max_pending`, waiting leases by `size`. The rest is room for leases
        // that ended before a worker took them.
        let capacity = max_pending.saturating_add(2 * size);
        Arc::new(Self {
            name,
            size: AtomicUsize::new(size),
            missing: Mutex::default(),
            left_threads: AtomicUsize::new(0),
            leased: AtomicUsize::new(0),
            leases_made: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            pending: Pending::new(max_pending),
            queue: Queue::new(capacity),
            idle_workers: IdleWorkers::default(),
            processes: OnceLock::new(),
            manager,
            leases: Mutex::default(),
            unreported_ends: Mutex::default(),
        })
    }

    /// Has child processes serve the queue. Called once, before the first job.
    pub(crate) fn serve_by(&self, processes: Arc<dyn Processes>) {
        // Called once, so nothing was set before.
        let _: Result<(), _> = self.processes.set(processes);
    }

    /// Whether the workers are child processes.
    pub(crate) fn has_processes(&self) -> bool {
        self.processes.get().is_some()
    }

    /// Has the other child processes of the pool load a module anew; does nothing for threads, which
    /// share their modules.
    pub(crate) fn reload(&self, module: &str) {
        if let Some(processes) = self.processes.get() {
            processes.reload(module);
        }
    }

    /// Sets the number of workers: that of the child processes that there are.
    pub(crate) fn resize(&self, size: usize) {
        self.size.store(size, Ordering::SeqCst);
    }

    /// Takes the next item of the queue. Called by `call_one`, which calls workers for the rest.
    pub(crate) fn take(&self) -> Option<Work> {
        self.queue.pop()
    }

    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    /// Records that the worker `id` was abandoned and not replaced: the pool has a worker less.
    /// Called by the watchdog.
    pub(crate) fn lose(&self, id: u64) {
        lock(&self.missing).push(id);
        self.size.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns the id of a worker to start for one that was not replaced, and counts it. Called by
    /// the watchdog.
    pub(crate) fn regain(&self) -> Option<u64> {
        let id = lock(&self.missing).pop()?;
        self.size.fetch_add(1, Ordering::SeqCst);
        Some(id)
    }

    pub(crate) fn missing(&self) -> usize {
        lock(&self.missing).len()
    }

    pub(crate) fn leased(&self) -> usize {
        self.leased.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Queues a job for any unleased worker, and returns its key in the queue.
    pub(crate) fn submit(self: &Arc<Self>, job: Arc<Job>) -> Result<u64, Error> {
        let ticket = Arc::clone(&job.ticket);
        if self.is_closed() || self.leased() >= self.size() {
            ticket.refuse();
            return Err(Error::NoWorkersAvailable);
        }
        let Ok(key) = self.queue.push(Work::Job(job)) else {
            ticket.refuse();
            return Err(Error::Overloaded);
        };
        self.call_worker();
        // The last worker may have been leased, or the pool closed, between the check and the push:
        // then no worker would take this job before some lease ends.
        if (self.is_closed() || self.leased() >= self.size()) && ticket.refuse() {
            self.withdraw(key);
            return Err(Error::NoWorkersAvailable);
        }
        Ok(key)
    }

    /// Takes a lease that has ended out of the queue; `false` if a worker has taken it.
    pub(crate) fn withdraw_lease(&self, key: u64) -> bool {
        self.queue.remove(key).is_some()
    }

    /// Makes one of at most `size` leases; the first worker that takes it from the queue serves it.
    /// Called on a scheduler thread.
    pub(crate) fn lease(self: &Arc<Self>, owner: Owner) -> Result<Arc<Lease>, Error> {
        let take = |n: usize| (n < self.size()).then_some(n + 1);
        if self.is_closed()
            || self
                .leased
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_err()
        {
            return Err(Error::NoWorkersAvailable);
        }
        self.leases_made.fetch_add(1, Ordering::Relaxed);
        let id = next_id();
        let lease = Lease::new(id, Arc::clone(self), owner);
        self.leases().insert(id, Arc::downgrade(&lease));
        let Ok(key) = self.queue.push(Work::Lease(Arc::clone(&lease))) else {
            // The queue is full of leases that ended while every worker was busy.
            lease.end();
            self.forget(id);
            return Err(Error::NoWorkersAvailable);
        };
        lease.set_queue_key(key);
        self.call_worker();
        if self.is_closed() {
            lease.end();
            // The last worker may have ended already: the watchdog refuses the lease then.
            notify_watchdog();
        } else if self.leased() > self.size() {
            // The pool has shrunk between the check and the push: no worker would take the lease.
            lease.end();
            return Err(Error::NoWorkersAvailable);
        }
        Ok(lease)
    }

    /// Counts a worker as free. Called once for each lease, by the thread that ends or frees it.
    pub(crate) fn give_back(&self) {
        self.leased.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has the watchdog notify `py_pool` of the end of a lease. Called by destructors, on any
    /// thread.
    pub(crate) fn report_end(&self, lease: &Arc<Lease>) {
        lock(&self.unreported_ends).push(Arc::clone(lease));
        notify_watchdog();
    }

    /// Takes the leases whose end `py_pool` does not know. Called by the watchdog.
    pub(crate) fn take_unreported_ends(&self) -> Vec<Arc<Lease>> {
        std::mem::take(&mut *lock(&self.unreported_ends))
    }

    /// Returns the leases that no worker has left yet.
    pub(crate) fn all_leases(&self) -> Vec<Arc<Lease>> {
        self.leases().values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn forget(&self, id: u64) {
        self.leases().remove(&id);
    }

    /// Closes the pool: every lease ends, and every worker ends once it is idle. Idempotent. Called
    /// on scheduler threads and by destructors.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        for lease in self.all_leases() {
            lease.end();
        }
        self.call_worker();
        // The watchdog interrupts the jobs that run.
        notify_watchdog();
    }

    /// Refuses the items of the queue that no worker will take: all of a closed pool, jobs if there
    /// are as many leases as workers, leases if there are more. Sends, so it is called on workers
    /// and the watchdog only.
    pub(crate) fn refuse_excess(self: &Arc<Self>, replies: &mut ReplyBuffer) {
        let is_excess = |work: &Work| match work {
            Work::Job(_) => self.is_closed() || self.leased() >= self.size(),
            Work::Lease(_) => self.is_closed() || self.leased() > self.size(),
        };
        // One by one, since a lease that ends makes room for the next.
        while let Some(work) = self.queue.pop_if(is_excess) {
            work.refuse(replies);
        }
        // The next worker may have to leave a closed pool as well.
        self.call_worker();
    }

    /// Takes the next item of the queue. Called by a worker that holds the GIL turn.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Work> {
        let work = self.queue.pop()?;
        if !self.queue.is_empty() {
            // The item may take long, so another worker is called for the rest.
            self.call_worker();
        }
        Some(work)
    }

    fn call_worker(self: &Arc<Self>) {
        match self.processes.get() {
            Some(processes) => processes.call_one(self),
            None => gil::call_one(self),
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<u64, Weak<Lease>>> {
        lock(&self.leases)
    }
}

impl RunQueue for Pool {
    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.is_closed()
    }

    fn idle_workers(&self) -> &IdleWorkers {
        &self.idle_workers
    }
}

impl JobQueue for Pool {
    fn withdraw(&self, key: u64) {
        if let Some(Work::Job(job)) = self.queue.remove(key) {
            job.settle();
        }
    }
}
