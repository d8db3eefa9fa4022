//! What the workers of one application start share: the queue of unbound jobs, the leases, the
//! counters. Made by `py_pool`; closed when `py_pool` stops, dies, or drops it.
//!
//! Everything here is called from scheduler threads and from workers; nothing blocks for
//! longer than a push into a queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use rustler::LocalPid;

use py_engine::lock::lock;

use crate::error::Error;
use crate::gil::{self, IdleWorkers, RunQueue};
use crate::job::{Job, Pending, ReplyBuffer};
use crate::vm::next_id;
use crate::vm::notify_watchdog;

mod handles;
mod lease;
mod queue;
mod submission;
mod usage;

pub(crate) use handles::{Context, LeaseHandle, PoolHandle};
pub(crate) use lease::Lease;
use queue::Queue;
pub(crate) use submission::{JobQueue, Submission, SubmissionHandle};
pub(crate) use usage::End;

/// What an unleased worker takes from the pool's queue.
pub(crate) enum Work {
    Job(Arc<Job>),
    /// Serve this lease until it ends.
    Lease(Arc<Lease>),
}

pub(crate) struct Pool {
    /// The number of workers, and so of leases.
    size: AtomicUsize,
    /// The ids of the workers that were abandoned and not replaced.
    missing: Mutex<Vec<u64>>,
    /// Python threads that a lease or an unbound call has left running.
    pub(crate) left_threads: AtomicUsize,
    leased: AtomicUsize,
    closed: AtomicBool,
    pub(crate) pending: Arc<Pending>,
    queue: Queue<Work>,
    idle_workers: IdleWorkers,
    /// The `py_pool` process that made this pool.
    pub(crate) manager: LocalPid,
    /// Held for the length of a map operation only, never while attached or attaching.
    leases: Mutex<HashMap<u64, Weak<Lease>>>,
    /// Leases whose end a destructor could not tell `py_pool`: the watchdog does. Locked for a push,
    /// or to take them all.
    ended: Mutex<Vec<Arc<Lease>>>,
}

impl Pool {
    pub(crate) fn new(size: usize, max_pending: usize, manager: LocalPid) -> Arc<Self> {
        // Jobs are bounded by `max_pending`, waiting leases by `size`. Leases that ended before a
        // worker came may fill what jobs leave.
        let capacity = max_pending.saturating_add(2 * size);
        Arc::new(Self {
            size: AtomicUsize::new(size),
            missing: Mutex::default(),
            left_threads: AtomicUsize::new(0),
            leased: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            pending: Pending::new(max_pending),
            queue: Queue::new(capacity),
            idle_workers: IdleWorkers::default(),
            manager,
            leases: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    /// The worker `id` is gone, and there may be no other.
    pub(crate) fn lose(&self, id: u64) {
        lock(&self.missing).push(id);
        self.size.fetch_sub(1, Ordering::SeqCst);
    }

    /// The id of a worker to start in an empty place.
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
            ticket.cancel();
            return Err(Error::NoWorkersAvailable);
        }
        let Ok(key) = self.queue.push(Work::Job(job)) else {
            ticket.cancel();
            return Err(Error::Overloaded);
        };
        self.call_worker();
        // The last worker may have been leased, or the pool closed, between the check and the
        // push: then nobody would come for this job until some lease ends.
        if (self.is_closed() || self.leased() >= self.size()) && ticket.cancel_queued() {
            self.withdraw(key);
            return Err(Error::NoWorkersAvailable);
        }
        Ok(key)
    }

    /// Takes out a lease that has ended; `false` if a worker has taken it.
    pub(crate) fn withdraw_lease(&self, key: u64) -> bool {
        self.queue.remove(key).is_some()
    }

    /// Takes one of the `size` leases; the first worker that comes to it serves it.
    pub(crate) fn lease(self: &Arc<Self>) -> Result<Arc<Lease>, Error> {
        let take = |n: usize| (n < self.size()).then_some(n + 1);
        if self.is_closed()
            || self
                .leased
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_err()
        {
            return Err(Error::NoWorkersAvailable);
        }
        let id = next_id();
        let lease = Lease::new(id, Arc::clone(self));
        self.leases().insert(id, Arc::downgrade(&lease));
        let Ok(key) = self.queue.push(Work::Lease(Arc::clone(&lease))) else {
            // Every worker is busy, and thousands of contexts were garbage collected meanwhile.
            lease.end();
            self.forget(id);
            return Err(Error::NoWorkersAvailable);
        };
        lease.waits_as(key);
        self.call_worker();
        if self.is_closed() {
            lease.end();
            // The last worker may have left before.
            notify_watchdog();
        } else if self.leased() > self.size() {
            // The pool has shrunk between the check and the push: nobody would come for it.
            lease.end();
            return Err(Error::NoWorkersAvailable);
        }
        Ok(lease)
    }

    /// One lease is over. Called once for each lease, by whoever ends it.
    pub(crate) fn give_back(&self) {
        self.leased.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has the watchdog tell `py_pool` that a lease has ended. Called in destructors, on any thread.
    pub(crate) fn tell_ended(&self, lease: &Arc<Lease>) {
        lock(&self.ended).push(Arc::clone(lease));
        notify_watchdog();
    }

    /// The leases whose end `py_pool` does not know, for the watchdog.
    pub(crate) fn take_ended(&self) -> Vec<Arc<Lease>> {
        std::mem::take(&mut *lock(&self.ended))
    }

    pub(crate) fn forget(&self, id: u64) {
        self.leases().remove(&id);
    }

    /// Ends every lease and lets every worker go once it is idle. Idempotent.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let leases: Vec<_> = self.leases().values().filter_map(Weak::upgrade).collect();
        for lease in leases {
            lease.end();
        }
        self.call_worker();
        // What runs there is interrupted.
        notify_watchdog();
    }

    /// Refuses what nobody will take from the queue: everything in a closed pool, jobs when there
    /// are as many leases as workers, leases when there are more. Sends, so not from a scheduler
    /// thread.
    pub(crate) fn refuse_excess(self: &Arc<Self>, replies: &mut ReplyBuffer) {
        let is_excess = |work: &Work| match work {
            Work::Job(_) => self.is_closed() || self.leased() >= self.size(),
            Work::Lease(_) => self.is_closed() || self.leased() > self.size(),
        };
        // One by one: a lease that ends makes room for the next.
        while let Some(work) = self.queue.pop_if(is_excess) {
            match work {
                Work::Job(job) => replies.refuse(&job, Error::NoWorkersAvailable),
                Work::Lease(lease) => {
                    lease.end();
                    lease.leave(replies, || Error::ContextNotBound);
                }
            }
        }
        // The next, who may have to leave a closed pool as well.
        self.call_worker();
    }

    /// What the calling worker, whose turn it is, does next.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Work> {
        let work = self.queue.pop()?;
        if !self.queue.is_empty() {
            // This one may take long.
            self.call_worker();
        }
        Some(work)
    }

    fn call_worker(self: &Arc<Self>) {
        gil::call_one(self);
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
