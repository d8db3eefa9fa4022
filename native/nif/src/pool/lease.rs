//! A lease of one worker, and the handle that Erlang holds.
//!
//! A lease ends once: by `unbind`, by its owner's death, by the drop of its last handle, by a
//! crash of its worker, or with its pool. Whoever ends it posts a note; the worker does the
//! rest. Scheduler threads and destructors come here: nothing blocks, nothing attaches.

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

/// A context is used by one process, or handed around by a few: this many calls may wait in it.
const QUEUE_CAPACITY: usize = 256;

pub(crate) struct Lease {
    pub(crate) id: u64,
    pub(super) pool: Arc<Pool>,
    queue: Queue<Arc<Job>>,
    /// Of the lease in the pool's queue.
    pub(super) key: OnceLock<u64>,
    /// Of the worker that serves it, once there is one.
    worker: OnceLock<Arc<WorkerHandle>>,
    usage: Usage,
    /// Asynchronous calls in flight.
    in_flight: InFlight,
    /// Of the worker's event loop, from the first such call on. Locked for a look.
    loop_waker: Mutex<Option<Arc<LoopWaker>>>,
    /// The worker waits in that loop.
    is_in_loop: AtomicBool,
    /// Iterators that nobody will ask any more. Locked for a push, or to take them all.
    closing: Mutex<Vec<u64>>,
    has_closing: AtomicBool,
    _counted: CountGuard,
}

impl Lease {
    pub(crate) fn new(id: u64, pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            id,
            pool,
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

    pub(crate) fn submitted(&self) -> usize {
        self.usage.submitted()
    }

    /// Returns the key of the job in the queue.
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
        ticket.cancel();
        Err(refusal)
    }

    /// Notes the key of the lease in the pool's queue, for `withdraw_lease`.
    pub(crate) fn waits_as(&self, key: u64) {
        // A lease is queued once.
        let _: Result<(), _> = self.key.set(key);
    }

    /// Ends the lease. Never waits: the worker, and the watchdog if code runs there, do the rest.
    pub(crate) fn end(&self) -> End {
        let end = self.usage.end(|| self.pool.give_back());
        if end != End::Already {
            // A lease that no worker has come to yet is skipped by the worker that comes.
            self.call_worker();
        }
        if end == End::Busy {
            notify_watchdog();
        }
        end
    }

    /// Ends the lease if no job is under way and no more than `submitted` have come.
    pub(crate) fn end_idle(&self, submitted: usize) -> bool {
        let is_quiet = self.usage.end_if_quiet(submitted, || self.pool.give_back());
        if is_quiet {
            self.call_worker();
        }
        is_quiet
    }

    /// From here on the worker of this seat is called when there is something to do.
    pub(crate) fn serve_by(&self, worker: &Arc<WorkerHandle>) {
        // A lease is served once.
        let _: Result<(), _> = self.worker.set(Arc::clone(worker));
        // Seated first, and looked then: who has added something before may have found no seat.
        fence(Ordering::SeqCst);
    }

    fn call_worker(&self) {
        fence(Ordering::SeqCst);
        if let Some(worker) = self.worker.get() {
            gil::call(worker);
        }
        if self.is_in_loop.load(Ordering::SeqCst) {
            self.wake_loop();
        }
    }

    /// A job goes on in the event loop, after the worker has finished with it. Ends as a job does.
    pub(crate) fn begin_task(&self, job: &Arc<Job>, host: &Arc<dyn Host>) {
        self.usage.begin_task();
        self.in_flight.add(job, host);
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// The worker comes out of its event loop.
    pub(crate) fn wake_loop(&self) {
        if let Some(waker) = &*self.loop_waker() {
            waker.wake();
        }
    }

    /// The worker's event loop has this bell: another one, if code has closed the loop before.
    pub(crate) fn set_loop_waker(&self, waker: &Arc<LoopWaker>) {
        *self.loop_waker() = Some(Arc::clone(waker));
    }

    /// Calls are in flight in the event loop of this bell.
    pub(crate) fn runs_tasks_by(&self, waker: Option<&Arc<LoopWaker>>) -> bool {
        let own = self.loop_waker();
        let is_own = own
            .as_ref()
            .zip(waker)
            .is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        is_own && !self.in_flight.is_empty()
    }

    fn loop_waker(&self) -> MutexGuard<'_, Option<Arc<LoopWaker>>> {
        lock(&self.loop_waker)
    }

    /// From here on the worker waits in its event loop, whose bell this is; `false` if there is
    /// something to do.
    pub(crate) fn enter_loop(&self, waker: &Arc<LoopWaker>) -> bool {
        self.set_loop_waker(waker);
        // Said first, and looked then.
        self.is_in_loop.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.wants_worker() && !self.in_flight.must_cancel()
    }

    pub(crate) fn leave_loop(&self) {
        self.is_in_loop.store(false, Ordering::SeqCst);
    }

    /// A job waits, an iterator is to be closed, or the lease has ended.
    pub(crate) fn wants_worker(&self) -> bool {
        !self.queue.is_empty() || self.is_ended() || self.has_closing.load(Ordering::SeqCst)
    }

    /// The worker closes the iterator of a stream.
    pub(crate) fn close_iterator(&self, id: u64) {
        self.closing().push(id);
        self.has_closing.store(true, Ordering::SeqCst);
        self.call_worker();
    }

    /// The iterators that the worker has to close.
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

    /// The worker has finished, skipped or refused one job. Comes before its reply, so that a
    /// caller who ends the lease right after the reply finds the worker idle.
    pub(crate) fn finish_job(&self) {
        self.usage.finish();
    }

    /// Nothing of the lease is left in its worker, or the worker is lost: it counts as free, and
    /// `py_pool` hears of it. The jobs that were accepted and did not run are refused. Sends, so
    /// not from a scheduler thread.
    pub(crate) fn leave(&self, replies: &mut ReplyBuffer, refusal: impl Fn() -> Error) {
        while !self.is_idle() {
            match self.queue.pop() {
                Some(job) => {
                    self.finish_job();
                    replies.refuse(&job, refusal());
                }
                // A submitter stands between its count and its push: a few instructions.
                None => std::thread::yield_now(),
            }
        }
        self.free();
        self.notify_ended(replies);
    }

    /// Counts its worker as free, if that was not done at the end.
    pub(super) fn free(&self) {
        self.usage.free(|| self.pool.give_back());
        self.pool.forget(self.id);
    }

    pub(crate) fn notify_ended(&self, replies: &mut ReplyBuffer) {
        let note = (atoms::py_lease(), self.id, atoms::ended());
        replies.notify(&self.pool.manager, note);
    }
}

impl JobQueue for Lease {
    fn withdraw(&self, key: u64) {
        if let Some(job) = self.queue.remove(key) {
            job.settle();
            self.finish_job();
        }
    }
}
