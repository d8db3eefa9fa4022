//! A stream: an iterator that lives in a lease, and the handle that Erlang holds on it.
//!
//! The worker keeps the iterator, see [`py_engine::asyncio`]; here it is a number. No item is
//! produced without a demand, which is a job that ends with one message. Only the consumer, the
//! process that started the stream, makes demands, and a stream has one open demand at most: one
//! that was accepted, and whose message is not sent yet. A stream ends by `stream_close`, by the
//! death of its consumer, by the drop of its handle, or with its lease.
//!
//! States of the last demand: open, then about to be answered (the ticket is `replied`), then
//! settled (`settled` is set, after the send). States of the stream: open, then `finished` or
//! `closed`.
//!
//! Called on scheduler threads (NIFs, the monitor, the destructor) and by the thread that sends the
//! message of a demand: nothing blocks, nothing attaches.

use rustler::{Atom, Encoder, Env, LocalPid, Monitor, Resource, ResourceArc, Term};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use py_engine::lock::lock;

use crate::atoms;
use crate::error::Error;
use crate::job::{CallbackQueue, Cancel, Demand, Job, ReplyTo};
use crate::live_counts::CountGuard;
use crate::pool::{Context, Lease, Submission, Target};
use crate::vm::VM;
use crate::vm::next_id;

pub(crate) struct Stream {
    /// The number under which the worker keeps the iterator.
    pub(crate) id: u64,
    pub(crate) lease: Arc<Lease>,
    /// Keeps the context of the stream: a context lasts as long as its streams. `None` for a stream
    /// of a binding.
    _context: Option<ResourceArc<Context>>,
    /// The lease was made for this stream, and ends with it.
    owns_lease: bool,
    /// Set by `close` and never cleared: the open demand is cancelled then.
    closed: AtomicBool,
    /// The message of a demand says, or is about to say, that the stream is over.
    finished: AtomicBool,
    consumer: LocalPid,
    /// The last demand that was accepted. Locked to copy or replace the reference.
    demand: Mutex<Option<Arc<Submission>>>,
    /// No demand is open: the message of the last one has been sent, or never will be.
    settled: AtomicBool,
    _counted: CountGuard,
}

impl Stream {
    /// Makes a stream, and monitors the calling process, its consumer; `None` if that is dying.
    pub(crate) fn open(
        env: Env<'_>,
        lease: Arc<Lease>,
        context: Option<ResourceArc<Context>>,
        owns_lease: bool,
    ) -> Option<ResourceArc<Self>> {
        let stream = ResourceArc::new(Self {
            id: next_id(),
            lease,
            _context: context,
            owns_lease,
            closed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            consumer: env.pid(),
            demand: Mutex::default(),
            settled: AtomicBool::new(true),
            _counted: VM.counts.streams.enter(),
        });
        env.monitor(&stream, &env.pid())?;
        Some(stream)
    }

    pub(crate) fn is_consumer(&self, process: LocalPid) -> bool {
        self.consumer == process
    }

    /// Makes a demand for `count` items. Called by the consumer. `within` is the callback that the
    /// consumer answers, if code of this lease waits for the answer.
    ///
    /// Returns `ok` if one message will be sent; `done` if the stream is over; `sending` while the
    /// message of the demand before is about to be sent, which `done` would overtake. Refuses with
    /// `Busy` while a demand is open.
    pub(crate) fn ask(
        this: &ResourceArc<Self>,
        env: Env<'_>,
        count: usize,
        callers: Term<'_>,
        within: Option<Arc<CallbackQueue>>,
    ) -> Result<Atom, Error> {
        if this.is_closed() {
            let is_settled = this.cancel_demand();
            return Ok(if is_settled {
                atoms::done()
            } else {
                atoms::sending()
            });
        }
        if !this.is_settled() {
            let is_open = this.demand().is_some_and(|demand| demand.is_pending());
            return if is_open {
                Err(Error::Busy)
            } else {
                Ok(atoms::sending())
            };
        }
        if this.is_finished() {
            return Ok(atoms::done());
        }
        let request = (atoms::undefined(), (atoms::next(), count), callers).encode(env);
        match Self::submit(this, env, request, within) {
            Ok(()) => Ok(atoms::ok()),
            // The lease or the callback has ended: the first demand returns the error, later ones
            // `done`.
            Err(Error::ContextNotBound) if !this.fail() => Ok(atoms::done()),
            Err(error) => Err(error),
        }
    }

    fn submit(
        this: &ResourceArc<Self>,
        env: Env<'_>,
        request: Term<'_>,
        within: Option<Arc<CallbackQueue>>,
    ) -> Result<(), Error> {
        let target = match within {
            Some(callback) => Target::Callback(callback),
            None => Target::Lease(Arc::clone(&this.lease)),
        };
        let ticket = target.open_ticket().ok_or(Error::Overloaded)?;
        let reply_to = ReplyTo::Demand(Arc::new(StreamDemand(this.clone())));
        let job = Job::accept(env, request, ticket, target.placement(), reply_to);
        // Cleared before the job is queued: its reply sets the flag.
        this.settled.store(false, Ordering::SeqCst);
        match target.submit(job) {
            Ok(submission) => *this.lock_demand() = Some(Arc::new(submission)),
            Err(error) => {
                this.settle();
                return Err(error);
            }
        }
        if this.is_closed() {
            // A `close` before the demand was stored has cancelled nothing.
            this.cancel_demand();
        }
        Ok(())
    }

    /// Settles the open demand. Called by the thread that has sent the message, or when none will
    /// be.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::SeqCst);
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    /// Ends the stream with the message of its open demand; `false` if it had ended before. Called
    /// by the worker.
    pub(crate) fn finish(&self) -> bool {
        let was_finished = self.is_finished();
        !self.finished.swap(true, Ordering::SeqCst) && !was_finished
    }

    /// Ends the stream with an error, and has the worker close the iterator after the message;
    /// `false` if the stream had ended before.
    pub(crate) fn fail(&self) -> bool {
        let is_first = self.finish();
        self.lease.close_iterator(self.id);
        is_first
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns `true` if no more items will come.
    fn is_finished(&self) -> bool {
        self.is_closed() || self.finished.load(Ordering::SeqCst)
    }

    /// Returns `true` if the stream is over and its lease was made for it: the worker ends the
    /// lease after the reply.
    pub(crate) fn frees_lease(&self) -> bool {
        self.owns_lease && self.is_finished()
    }

    /// Closes the stream, and cancels its open demand. Returns `false` while the message of that
    /// demand is about to be sent: the caller has to call again. Idempotent.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::SeqCst);
        let is_settled = self.cancel_demand();
        if first {
            self.lease.close_iterator(self.id);
            if self.owns_lease {
                self.lease.end();
            }
        }
        is_settled
    }

    /// Cancels the open demand, if there is one; `false` while its message is about to be sent.
    fn cancel_demand(&self) -> bool {
        if self.is_settled() {
            return true;
        }
        let demand = self.demand();
        demand.is_none_or(|demand| demand.cancel() == Cancel::Cancelled)
    }

    fn demand(&self) -> Option<Arc<Submission>> {
        self.lock_demand().clone()
    }

    fn lock_demand(&self) -> MutexGuard<'_, Option<Arc<Submission>>> {
        lock(&self.demand)
    }
}

/// The stream's part of a job that is a demand. The job refers to its stream; the stream refers to
/// the ticket of the job only, so the two are no cycle.
pub(crate) struct StreamDemand(pub(crate) ResourceArc<Stream>);

impl Demand for StreamDemand {
    fn message<'a>(&self, env: Env<'a>, result: Term<'a>) -> Term<'a> {
        (atoms::py_stream(), &self.0, result).encode(env)
    }

    fn fail(&self) {
        self.0.fail();
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn frees_lease(&self) -> bool {
        self.0.frees_lease()
    }
}

#[rustler::resource_impl]
impl Resource for Stream {
    /// Closes the stream when its consumer has died. Runs on a scheduler thread.
    fn down<'a>(&'a self, _env: Env<'a>, _consumer: LocalPid, _monitor: Monitor) {
        self.close();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}
