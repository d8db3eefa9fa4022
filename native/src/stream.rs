//! A stream: an iterator that lives in a lease, and the handle that Erlang holds on it.
//!
//! The iterator itself is with the worker, see [`crate::iterators`]; here it is a number. Nothing is
//! produced without a demand, and each demand is a job that ends with one message. A stream ends
//! by `stream_close`, by the death of its consumer, by the drop of its handle, or with its lease.
//! Scheduler threads, monitors and destructors come here: nothing blocks, nothing attaches.

use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::census::{Counted, STREAMS};
use crate::context::{Context, Lease};
use crate::ticket::{Cancel, Ticket};

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Stream {
    /// What the worker knows the iterator by.
    pub(crate) id: u64,
    pub(crate) lease: Arc<Lease>,
    /// A context lasts as long as its streams; the one that was made for a stream no longer.
    _context: Option<ResourceArc<Context>>,
    /// The lease was made for this stream.
    owns_lease: bool,
    closed: AtomicBool,
    /// A demand has come to its end.
    finished: AtomicBool,
    demands: Mutex<Vec<Arc<Demand>>>,
    _counted: Counted,
}

/// One `stream_next`.
pub(crate) struct Demand {
    pub(crate) ticket: Arc<Ticket>,
    /// Its message is on the way, or nobody wants one.
    settled: AtomicBool,
    /// It has come to the end of a stream whose lease is its own.
    frees_lease: AtomicBool,
}

impl Stream {
    /// `None` when the calling process, the consumer, is dying.
    pub(crate) fn open(
        env: Env<'_>,
        lease: Arc<Lease>,
        context: Option<ResourceArc<Context>>,
        owns_lease: bool,
    ) -> Option<ResourceArc<Self>> {
        let stream = ResourceArc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            lease,
            _context: context,
            owns_lease,
            closed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            demands: Mutex::default(),
            _counted: STREAMS.enter(),
        });
        env.monitor(&stream, &env.pid())?;
        Some(stream)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// There will be no more items.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_closed() || self.finished.load(Ordering::SeqCst)
    }

    /// And nothing is on its way, which `done` would overtake.
    pub(crate) fn is_over(&self) -> bool {
        self.is_finished() && self.demands().iter().all(|demand| demand.is_settled())
    }

    pub(crate) fn demand(&self, ticket: &Arc<Ticket>) -> Arc<Demand> {
        let demand = Arc::new(Demand {
            ticket: Arc::clone(ticket),
            settled: AtomicBool::new(false),
            frees_lease: AtomicBool::new(false),
        });
        let mut demands = self.demands();
        demands.retain(|demand| !demand.is_settled());
        demands.push(Arc::clone(&demand));
        demand
    }

    /// Nothing will come any more, but for what is on the way: `false` while something is about to
    /// be sent. Idempotent.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::SeqCst);
        let demands = self.demands().clone();
        let settled = |demand: &Arc<Demand>| {
            demand.ticket.cancel() == Cancel::Cancelled || demand.is_settled()
        };
        // Every one of them, whatever the first says.
        let unsettled = demands.iter().filter(|demand| !settled(demand)).count();
        if first {
            self.lease.close_iterator(self.id);
            if self.owns_lease {
                self.lease.end();
            }
        }
        unsettled == 0
    }

    fn demands(&self) -> MutexGuard<'_, Vec<Arc<Demand>>> {
        // Whole after each operation, whatever panicked.
        self.demands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rustler::resource_impl]
impl Resource for Stream {
    /// The consumer died.
    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.close();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

impl Demand {
    /// The message is sent, or will never be.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::SeqCst);
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    /// The stream is over.
    pub(crate) fn finish(&self, stream: &Stream) {
        stream.finished.store(true, Ordering::SeqCst);
        self.frees_lease.store(stream.owns_lease, Ordering::SeqCst);
    }

    pub(crate) fn frees_lease(&self) -> bool {
        self.frees_lease.load(Ordering::SeqCst)
    }
}
