//! A lease of one worker, and the handle that Erlang holds.
//!
//! A lease ends once: by `unbind`, by its owner's death, by the drop of its last handle, by a
//! crash of its worker, or with its pool. Whoever ends it posts a note; the worker does the
//! rest. Scheduler threads and destructors come here: nothing blocks, nothing attaches.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
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

pub(crate) use handles::{Context, LeaseHandle};

/// A context is used by one process, or handed around by a few: this many calls may wait in it.
const QUEUE_CAPACITY: usize = 256;

/// Of `active`: the lease has ended. In one word with the count, so that no job comes between a
/// look at the count and the end.
const ENDED: usize = 1 << (usize::BITS - 1);

pub(crate) struct Lease {
    pub(crate) id: u64,
    pool: Arc<Pool>,
    queue: Queue<Arc<Job>>,
    /// Of the worker that serves it, once there is one.
    seat: OnceLock<Arc<Seat>>,
    /// Jobs accepted and not yet finished by the worker, cancelled ones included; and `ENDED`.
    active: AtomicUsize,
    /// Jobs that have come so far.
    submitted: AtomicUsize,
    /// Asynchronous calls in flight.
    board: Board,
    /// Of the worker's event loop, from the first such call on. Locked for a look.
    bell: Mutex<Option<Arc<Bell>>>,
    /// The worker waits in that loop.
    is_pumped: AtomicBool,
    /// Iterators that nobody will ask any more. Locked for a push, or to take them all.
    closing: Mutex<Vec<u64>>,
    has_closing: AtomicBool,
    /// The worker counts as free again. Orders end and leave; held for a few instructions.
    given_back: Mutex<bool>,
    _counted: Counted,
}

/// What the end of a lease left behind.
#[derive(PartialEq, Eq)]
pub(crate) enum End {
    /// No job was left: the worker counts as free from now on.
    Idle,
    /// The worker still has a job to end: a note will say when it is free.
    Busy,
    /// It had ended before.
    Already,
}

impl Lease {
    pub(crate) fn new(id: u64, pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            id,
            pool,
            queue: Queue::new(QUEUE_CAPACITY),
            seat: OnceLock::new(),
            active: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            board: Board::default(),
            bell: Mutex::default(),
            is_pumped: AtomicBool::new(false),
            closing: Mutex::default(),
            has_closing: AtomicBool::new(false),
            given_back: Mutex::new(false),
            _counted: LEASES.enter(),
        })
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.active.load(Ordering::SeqCst) & ENDED != 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.active.load(Ordering::SeqCst) & !ENDED == 0
    }

    pub(crate) fn submitted(&self) -> usize {
        self.submitted.load(Ordering::SeqCst)
    }

    pub(crate) fn submit(&self, job: Arc<Job>) -> Result<(), Error> {
        // First: who finds this one finished finds it counted here.
        self.submitted.fetch_add(1, Ordering::SeqCst);
        // Counts and looks at once; `leave` waits for everyone who counted.
        let active = self.active.fetch_add(1, Ordering::SeqCst);
        let ticket = Arc::clone(&job.ticket);
        let refusal = if active & ENDED != 0 {
            Error::ContextNotBound
        } else if self.queue.push(job).is_err() {
            Error::Overloaded
        } else {
            self.call_worker();
            return Ok(());
        };
        self.active.fetch_sub(1, Ordering::SeqCst);
        ticket.cancel();
        Err(refusal)
    }

    /// Ends the lease. Posts a note, never waits.
    pub(crate) fn end(&self) -> End {
        let given_back = self.given_back();
        let active = self.active.fetch_or(ENDED, Ordering::SeqCst);
        if active & ENDED != 0 {
            return End::Already;
        }
        if active == 0 {
            self.ended_idle(given_back);
            return End::Idle;
        }
        drop(given_back);
        self.call_worker();
        // What runs there is interrupted.
        watchdog::ring();
        End::Busy
    }

    /// Ends the lease if no job is under way, and no more than these have come. Who counts in
    /// `submit` before the exchange makes it fail, and keeps the lease; who comes later finds
    /// `ENDED`, and has not been accepted.
    pub(crate) fn end_idle(&self, submitted: usize) -> bool {
        let given_back = self.given_back();
        let is_quiet = self.submitted() == submitted
            && self
                .active
                .compare_exchange(0, ENDED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if is_quiet {
            self.ended_idle(given_back);
        }
        is_quiet
    }

    /// A lease that no worker has come to yet is free as well: the one that comes passes on.
    fn ended_idle(&self, mut given_back: MutexGuard<'_, bool>) {
        *given_back = true;
        self.pool.give_back();
        drop(given_back);
        self.call_worker();
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
        self.active.fetch_add(1, Ordering::SeqCst);
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
        self.active.fetch_sub(1, Ordering::SeqCst);
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
        if !std::mem::replace(&mut *self.given_back(), true) {
            self.pool.give_back();
        }
        self.pool.forget(self.id);
        self.tell_ended(outbox);
    }

    pub(crate) fn tell_ended(&self, outbox: &mut Outbox) {
        let note = (atoms::py_lease(), self.id, atoms::ended());
        outbox.note(&self.pool.manager, note);
    }

    fn given_back(&self) -> MutexGuard<'_, bool> {
        // A flag is whole whatever panicked.
        self.given_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
