//! A lease of one worker, and the handle that Erlang holds.
//!
//! A lease ends once: by `unbind`, by its owner's death, by the drop of its last handle, by a
//! crash of its worker, or with its pool. Whoever ends it posts a note; the worker does the
//! rest. Scheduler threads and destructors come here: nothing blocks, nothing attaches.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::atoms;
use crate::bell::Bell;
use crate::census::{Counted, LEASES};
use crate::error::Error;
use crate::flights::Board;
use crate::job::Job;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::reply::Outbox;
use crate::turn::{self, Seat};
use crate::watchdog;

mod handles;
mod usage;

pub(crate) use handles::{Context, LeaseHandle};
pub(crate) use usage::End;
use usage::Usage;

/// A context is used by one process, or handed around by a few: this many calls may wait in it.
const QUEUE_CAPACITY: usize = 256;

pub(crate) struct Lease {
    pub(crate) id: u64,
    pool: Arc<Pool>,
    queue: Queue<Arc<Job>>,
    /// Of the lease in the pool's queue.
    key: OnceLock<u64>,
    /// Of the worker that serves it, once there is one.
    seat: OnceLock<Arc<Seat>>,
    usage: Usage,
    /// Asynchronous calls in flight.
    board: Board,
    /// Of the worker's event loop, from the first such call on. Locked for a look.
    bell: Mutex<Option<Arc<Bell>>>,
    /// The worker waits in that loop.
    is_pumped: AtomicBool,
    /// Iterators that nobody will ask any more. Locked for a push, or to take them all.
    closing: Mutex<Vec<u64>>,
    has_closing: AtomicBool,
    _counted: Counted,
}

impl Lease {
    pub(crate) fn new(id: u64, pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            id,
            pool,
            queue: Queue::new(QUEUE_CAPACITY),
            key: OnceLock::new(),
            seat: OnceLock::new(),
            usage: Usage::new(),
            board: Board::default(),
            bell: Mutex::default(),
            is_pumped: AtomicBool::new(false),
            closing: Mutex::default(),
            has_closing: AtomicBool::new(false),
            _counted: LEASES.enter(),
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

    /// Takes out a job that was cancelled. A worker that has taken it finds that out, and does the
    /// rest.
    pub(crate) fn withdraw(&self, key: u64) {
        let Some(job) = self.queue.remove(key) else {
            return;
        };
        job.settle();
        self.finish_job();
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
            watchdog::ring();
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
    pub(crate) fn seat(&self, seat: &Arc<Seat>) {
        // A lease is served once.
        let _: Result<(), _> = self.seat.set(Arc::clone(seat));
        // Seated first, and looked then: who has added something before may have found no seat.
        fence(Ordering::SeqCst);
    }

    fn call_worker(&self) {
        fence(Ordering::SeqCst);
        if let Some(seat) = self.seat.get() {
            turn::call(seat);
        }
        if self.is_pumped.load(Ordering::SeqCst) {
            self.ring();
        }
    }

    /// A job goes on in the event loop, after the worker has finished with it. Ends as a job does.
    pub(crate) fn begin_flight(&self, job: &Arc<Job>) {
        self.usage.begin_task();
        self.board.add(job);
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The worker comes out of its event loop.
    pub(crate) fn ring(&self) {
        if let Some(bell) = &*self.bell() {
            bell.ring();
        }
    }

    /// The worker's event loop has this bell: another one, if code has closed the loop before.
    pub(crate) fn listen(&self, bell: &Arc<Bell>) {
        *self.bell() = Some(Arc::clone(bell));
    }

    /// Calls are in flight in the event loop of this bell.
    pub(crate) fn flies_by(&self, bell: Option<&Arc<Bell>>) -> bool {
        let own = self.bell();
        let is_own = own
            .as_ref()
            .zip(bell)
            .is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        is_own && !self.board.is_empty()
    }

    fn bell(&self) -> MutexGuard<'_, Option<Arc<Bell>>> {
        // Whole after each assignment, whatever panicked.
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the worker waits in its event loop, whose bell this is; `false` if there is
    /// something to do.
    pub(crate) fn enter_loop(&self, bell: &Arc<Bell>) -> bool {
        self.listen(bell);
        // Said first, and looked then.
        self.is_pumped.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.wants_worker() && !self.board.has_unwanted()
    }

    pub(crate) fn leave_loop(&self) {
        self.is_pumped.store(false, Ordering::SeqCst);
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
    pub(crate) fn take_closing(&self) -> Vec<u64> {
        if !self.has_closing.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.closing())
    }

    fn closing(&self) -> MutexGuard<'_, Vec<u64>> {
        // Whole after each operation, whatever panicked.
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) fn leave(&self, outbox: &mut Outbox, refusal: impl Fn() -> Error) {
        while !self.is_idle() {
            match self.queue.pop() {
                Some(job) => {
                    self.finish_job();
                    outbox.refuse(&job, refusal());
                }
                // A submitter stands between its count and its push: a few instructions.
                None => std::thread::yield_now(),
            }
        }
        self.free();
        self.tell_ended(outbox);
    }

    /// Counts its worker as free, if that was not done at the end.
    fn free(&self) {
        self.usage.free(|| self.pool.give_back());
        self.pool.forget(self.id);
    }

    pub(crate) fn tell_ended(&self, outbox: &mut Outbox) {
        let note = (atoms::py_lease(), self.id, atoms::ended());
        outbox.note(&self.pool.manager, note);
    }
}
