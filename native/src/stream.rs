//! A stream: an iterator that lives in a lease, and the handle that Erlang holds on it.
//!
//! The iterator itself is with the worker, see [`crate::iterators`]; here it is a number. Nothing is
//! produced without a demand, and each demand is a job that ends with one message. A stream ends
//! by `stream_close`, by the death of its consumer, by the drop of its handle, or with its lease.
//! Scheduler threads, monitors and destructors come here: nothing blocks, nothing attaches.

use rustler::{Atom, Env, LocalPid, Monitor, Resource, ResourceArc, Term};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::atoms;
use crate::callback::Callback;
use crate::census::{Counted, STREAMS};
use crate::context::{Context, Lease};
use crate::error::Error;
use crate::job::{Home, Job};
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
    /// There are no more, and whoever asked is dead: the next one is told why.
    lost: AtomicBool,
    consumer: LocalPid,
    /// Others that have asked, and are monitored.
    askers: Mutex<Vec<LocalPid>>,
    demands: Mutex<Vec<Arc<Demand>>>,
    _counted: Counted,
}

/// One `stream_next`.
pub(crate) struct Demand {
    ticket: Arc<Ticket>,
    asker: LocalPid,
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
            lost: AtomicBool::new(false),
            consumer: env.pid(),
            askers: Mutex::default(),
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

    /// Asks for items, by an order for a job: `ok`, or `done`. `within`: the calling process
    /// answers this.
    pub(crate) fn ask(
        this: &ResourceArc<Self>,
        env: Env<'_>,
        order: Term<'_>,
        within: Option<Arc<Callback>>,
    ) -> Result<Atom, Error> {
        if !Self::watch(this, env) {
            // Nobody will look for a message.
            return Ok(atoms::ok());
        }
        let ticket = match &within {
            Some(callback) => Ticket::admit(&callback.pending),
            None => Ticket::open(&this.lease.pool().pending).ok_or(Error::Overloaded)?,
        };
        let demand = this.demand(env.pid(), &ticket);
        let parent = within.as_ref().and_then(|callback| callback.job.clone());
        let home = Home::Demand(Arc::clone(&demand), parent);
        let job = Job::accept(env, order, ticket, home);
        let submitted = match within {
            Some(callback) => callback.submit(job),
            None => this.lease.submit(job),
        };
        let Err(error) = submitted else {
            return Ok(atoms::ok());
        };
        demand.settle();
        match error {
            // Its lease was for it alone, and has ended with it.
            Error::ContextNotBound if this.is_finished() => Ok(atoms::done()),
            error => Err(error),
        }
    }

    /// The demands of the calling process end with it; `false` if it is dying.
    fn watch(this: &ResourceArc<Self>, env: Env<'_>) -> bool {
        let asker = env.pid();
        if asker == this.consumer || this.askers().contains(&asker) {
            return true;
        }
        // Its end comes after this: it is still in here.
        let is_alive = env.monitor(this, &asker).is_some();
        if is_alive {
            this.askers().push(asker);
        }
        is_alive
    }

    fn demand(&self, asker: LocalPid, ticket: &Arc<Ticket>) -> Arc<Demand> {
        let demand = Arc::new(Demand {
            ticket: Arc::clone(ticket),
            asker,
            settled: AtomicBool::new(false),
            frees_lease: AtomicBool::new(false),
        });
        let mut demands = self.demands();
        demands.retain(|demand| !demand.is_settled());
        demands.push(Arc::clone(&demand));
        demand
    }

    /// There are no more, and nobody has been told why.
    pub(crate) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
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

    fn askers(&self) -> MutexGuard<'_, Vec<LocalPid>> {
        // Whole after each operation, whatever panicked.
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demands(&self) -> MutexGuard<'_, Vec<Arc<Demand>>> {
        // Whole after each operation, whatever panicked.
        self.demands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rustler::resource_impl]
impl Resource for Stream {
    /// The consumer died, or another that has asked.
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if pid == self.consumer {
            self.close();
            return;
        }
        self.askers().retain(|asker| *asker != pid);
        let demands = self.demands().clone();
        for demand in demands.iter().filter(|demand| demand.asker == pid) {
            demand.ticket.cancel();
        }
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

    /// As `finish`, with an error that somebody should hear.
    pub(crate) fn fail(&self, stream: &Stream) {
        if self.ticket.is_pending() || stream.is_closed() {
            self.finish(stream);
        } else {
            stream.lost.store(true, Ordering::SeqCst);
        }
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
