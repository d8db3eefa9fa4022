//! A lease: one worker and one namespace for one owner.
//!
//! States: queued in the pool, served by a worker, ended and busy, free; `docs/internals/lease.md`
//! draws them. A lease ends once: by `unbind`, by its owner's death, by the drop of its last
//! handle, by a crash of its worker, or with its pool. The end sets a flag and calls the worker,
//! which cleans up.
//!
//! Called on scheduler threads, by destructors, by the worker and by the watchdog: nothing
//! attaches, and locks are held for a look. Only `leave` and `notify_ended` send, and `leave` may
//! yield.

use rustler::{Atom, LocalPid};
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use py_engine::host::Host;
use py_engine::lock::lock;
use py_engine::loop_waker::LoopWaker;

use super::queue::Queue;
use super::usage::{End, Usage};
use super::{JobQueue, Pool};
use crate::atoms;
use crate::error::Error;
use crate::gil::{self, WorkerHandle};
use crate::job::{InFlight, Job, ReplyBuffer};
use crate::live_counts::CountGuard;
use crate::vm::VM;
use crate::vm::notify_watchdog;

/// How many calls may wait in a lease, which is used by one process, or by a few that share it.
const QUEUE_CAPACITY: usize = 256;

pub(crate) struct Lease {
    pub(crate) id: u64,
    pub(super) pool: Arc<Pool>,
    pub(crate) owner: Owner,
    queue: Queue<Arc<Job>>,
    /// The key of the lease in the pool's queue. Set once, after the push.
    pub(super) key: OnceLock<u64>,
    /// The worker that serves the lease. Set once, by the worker.
    worker: OnceLock<LeaseWorker>,
    usage: Usage,
    /// The tasks in flight in the event loop.
    in_flight: InFlight,
    /// The waker of the worker's event loop, from the first task on. Locked for a look.
    loop_waker: Mutex<Option<Arc<LoopWaker>>>,
    /// The worker waits in its event loop.
    is_in_loop: AtomicBool,
    /// The iterators of streams that are over, to be closed by the worker. Locked for a push, or to
    /// take them all.
    closing: Mutex<Vec<u64>>,
    has_closing: AtomicBool,
    _counted: CountGuard,
}

/// The process that a lease was made for.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) pid: LocalPid,
    /// `implicit` for the binding of the process, `explicit` for a context.
    pub(crate) kind: Atom,
}

/// The worker that serves a lease.
pub(crate) enum LeaseWorker {
    Thread(Arc<WorkerHandle>),
    Process(Arc<dyn ServeLease>),
}

/// A child process that serves a lease.
pub(crate) trait ServeLease: Send + Sync + RefUnwindSafe {
    /// Has the process look for jobs of its lease, iterators to close, and the end of the lease. Called
    /// on any thread, also by destructors; never blocks, and sends no message.
    fn call(&self);
    /// Has the process sample the code of its lease, which is to be `lease`, for some milliseconds, and send the profile to
    /// `receiver`; `false` if it cannot. Called on a dirty scheduler; never blocks.
    fn profile(&self, lease: u64, receiver: LocalPid, number: u64, milliseconds: u32) -> bool;
}

impl Lease {
    pub(crate) fn new(id: u64, pool: Arc<Pool>, owner: Owner) -> Arc<Self> {
        Arc::new(Self {
            id,
            pool,
            owner,
            queue: Queue::new(QUEUE_CAPACITY),
            key: OnceLock::new(),
            worker: OnceLock::new(),
            usage: Usage::new(),
            in_flight: InFlight::default(),
            loop_waker: Mutex::default(),
            is_in_loop: AtomicBool::new(false),
            closing: Mutex::default(),
            has_closing: AtomicBool::new(false),
            _counted: VM.counts.leases.enter(),
        })
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.usage.is_ended()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.usage.is_idle()
    }

    /// Returns how many jobs wait for the worker.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns the worker that serves the lease, once one does.
    pub(crate) fn worker(&self) -> Option<&LeaseWorker> {
        self.worker.get()
    }

    pub(crate) fn submitted(&self) -> usize {
        self.usage.submitted()
    }

    /// Queues a job and calls the worker; returns the key of the job in the queue. Called on a
    /// scheduler thread.
    pub(crate) fn submit(&self, job: Arc<Job>) -> Result<u64, Error> {
        let ticket = Arc::clone(&job.ticket);
        let refusal = if !self.usage.begin() {
            Error::ContextNotBound
        } else if let Ok(key) = self.queue.push(job) {
            self.call_worker();
            return Ok(key);
        } else {
            Error::Overloaded
        };
        self.usage.finish();
        ticket.refuse();
        Err(refusal)
    }

    /// Stores the key of the lease in the pool's queue, for `withdraw_lease`.
    pub(crate) fn set_queue_key(&self, key: u64) {
        // A lease is queued once, so the key was not set before.
        let _: Result<(), _> = self.key.set(key);
    }

    /// Ends the lease, and returns how busy its worker is. Never blocks: the worker cleans up, and
    /// the watchdog interrupts a job that runs.
    pub(crate) fn end(&self) -> End {
        let end = self.usage.end(|| self.pool.give_back());
        if end != End::Already {
            // A lease that is still queued is skipped by the worker that takes it.
            self.call_worker();
        }
        if end == End::Busy {
            notify_watchdog();
        }
        end
    }

    /// Ends the lease if it is idle and `submitted` jobs have come so far; `false` if it goes on.
    pub(crate) fn end_idle(&self, submitted: usize) -> bool {
        let is_quiet = self.usage.end_if_quiet(submitted, || self.pool.give_back());
        if is_quiet {
            self.call_worker();
        }
        is_quiet
    }

    /// Publishes the worker that serves the lease: it is called from now on. The worker looks for
    /// work after this call, which ends with a fence.
    pub(crate) fn serve_by(&self, worker: LeaseWorker) {
        // A lease is served once, so no worker was set before.
        let _: Result<(), _> = self.worker.set(worker);
        // A thread that added work before the `set` may have found no worker to call.
        fence(Ordering::SeqCst);
    }

    /// Calls the worker, if one serves the lease, and wakes its event loop. Called on any thread
    /// after something was added for the worker.
    fn call_worker(&self) {
        fence(Ordering::SeqCst);
        match self.worker.get() {
            Some(LeaseWorker::Thread(worker)) => gil::call(worker),
            Some(LeaseWorker::Process(worker)) => worker.call(),
            None => {}
        }
        if self.is_in_loop.load(Ordering::SeqCst) {
            self.wake_loop();
        }
    }

    /// Puts the task of a job in flight. The task counts as a job of the lease, beside the job
    /// itself, and ends by `finish_job`. Called by the worker with interrupts masked.
    pub(crate) fn begin_task(&self, job: &Arc<Job>, host: &Arc<dyn Host>) {
        self.usage.begin_task();
        self.in_flight.add(job, host);
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Wakes the worker from its event loop. Called on any thread; never blocks.
    pub(crate) fn wake_loop(&self) {
        if let Some(waker) = &*self.loop_waker() {
            waker.wake();
        }
    }

    /// Sets the waker of the worker's event loop. It changes if code closes the loop of its lease.
    pub(crate) fn set_loop_waker(&self, waker: &Arc<LoopWaker>) {
        *self.loop_waker() = Some(Arc::clone(waker));
    }

    /// Returns `true` if `waker` is that of the lease's event loop and tasks are in flight there.
    pub(crate) fn runs_tasks_in(&self, waker: Option<&Arc<LoopWaker>>) -> bool {
        let loop_waker = self.loop_waker();
        let is_same_loop = loop_waker
            .as_ref()
            .zip(waker)
            .is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        is_same_loop && !self.in_flight.is_empty()
    }

    fn loop_waker(&self) -> MutexGuard<'_, Option<Arc<LoopWaker>>> {
        lock(&self.loop_waker)
    }

    /// Declares that the worker waits in its event loop, which `waker` wakes; `false` if there is
    /// something to do, so that it must not enter. Called by the worker.
    pub(crate) fn enter_loop(&self, waker: &Arc<LoopWaker>) -> bool {
        self.set_loop_waker(waker);
        // The flag is set first; a thread that adds work adds it first and reads the flag then.
        self.is_in_loop.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.wants_worker() && !self.in_flight.must_cancel()
    }

    pub(crate) fn leave_loop(&self) {
        self.is_in_loop.store(false, Ordering::SeqCst);
    }

    /// Returns `true` if a job waits, an iterator is to be closed, or the lease has ended.
    pub(crate) fn wants_worker(&self) -> bool {
        !self.queue.is_empty() || self.is_ended() || self.has_closing.load(Ordering::SeqCst)
    }

    /// Has the worker close the iterator of a stream. Called on any thread; never blocks.
    pub(crate) fn close_iterator(&self, id: u64) {
        self.closing().push(id);
        self.has_closing.store(true, Ordering::SeqCst);
        self.call_worker();
    }

    /// Takes the iterators that are to be closed. Called by the worker.
    pub(crate) fn take_iterators_to_close(&self) -> Vec<u64> {
        if !self.has_closing.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.closing())
    }

    fn closing(&self) -> MutexGuard<'_, Vec<u64>> {
        lock(&self.closing)
    }

    pub(crate) fn next(&self) -> Option<Arc<Job>> {
        self.queue.pop()
    }

    /// Counts a job as finished, skipped or refused. Called before the reply, so that a caller that
    /// ends the lease right after the reply finds the worker idle.
    pub(crate) fn finish_job(&self) {
        self.usage.finish();
    }

    /// Leaves an ended lease: refuses the jobs that were accepted and did not run, counts the
    /// worker as free, and notifies `py_pool`. Called by the worker when nothing of the lease is
    /// left in it, or by the watchdog in the place of an abandoned one. Sends, so it must not run
    /// on a scheduler thread.
    pub(crate) fn leave(&self, replies: &mut ReplyBuffer, refusal: impl Fn() -> Error) {
        while !self.is_idle() {
            match self.queue.pop() {
                Some(job) => {
                    self.finish_job();
                    replies.refuse(&job, refusal());
                }
                // A submitter has counted its job and is about to push it, or to take it back.
                None => std::thread::yield_now(),
            }
        }
        self.free();
        self.notify_ended(replies);
    }

    /// Counts the worker as free, if that was not done by `end`.
    pub(super) fn free(&self) {
        self.usage.free(|| self.pool.give_back());
        self.pool.forget(self.id);
    }

    /// Notifies `py_pool` that the lease has ended. Sends, so it must not run on a scheduler
    /// thread.
    pub(crate) fn notify_ended(&self, replies: &mut ReplyBuffer) {
        let message = (atoms::py_lease(), self.id, atoms::ended());
        replies.notify(&self.pool.manager, message);
    }
}

impl JobQueue for Lease {
    fn withdraw(&self, key: u64) {
        if let Some(job) = self.queue.remove(key) {
            // The count first: the job may hold the last handle of its context, which ends then, and
            // leaves the pool's queue only if it has no job.
            self.finish_job();
            job.settle();
        }
    }
}
