//! A stream: an iterator that lives in a lease, and the handle that Erlang holds on it.
//!
//! The iterator itself is with the worker, see [`crate::iterators`]; here it is a number. Nothing
//! is produced without a demand, and each demand is a job that ends with one message. A stream ends
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
use crate::submission::Submission;
use crate::ticket::Ticket;

mod demands;

pub(crate) use demands::Demand;
use demands::Demands;

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
    pub(crate) demands: Demands,
    _counted: Counted,
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
            demands: Demands::default(),
            _counted: STREAMS.enter(),
        });
        env.monitor(&stream, &env.pid())?;
        Some(stream)
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
        let demand = Demand::new(env.pid(), &ticket);
        let parent = within.as_ref().and_then(|callback| callback.job.clone());
        let home = Home::Demand(Arc::clone(&demand), parent);
        let job = Job::accept(env, order, ticket, home);
        let submitted = match within {
            Some(callback) => Submission::to_callback(&callback, job),
            None => Submission::to_lease(&this.lease, job),
        };
        match submitted {
            Ok(submission) => {
                demand.accepted(submission);
                this.accept(&demand);
                Ok(atoms::ok())
            }
            Err(Error::ContextNotBound) => this.turn_away(env.pid()),
            Err(error) => Err(error),
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

    fn accept(&self, demand: &Arc<Demand>) {
        self.demands.accept(Arc::clone(demand));
        if self.is_closed() {
            // Whoever closed it may have come too early to see this one.
            demand.cancel();
        }
    }

    fn turn_away(&self, asker: LocalPid) -> Result<Atom, Error> {
        if self.demands.wait(asker) {
            Ok(atoms::ok())
        } else if self.refuse() {
            Ok(atoms::done())
        } else {
            Err(Error::ContextNotBound)
        }
    }

    /// A demand is not met: `true` if it is told `done`. Only one is told that the lease has ended.
    pub(crate) fn refuse(&self) -> bool {
        let is_finished = self.is_finished();
        if self.lease.is_ended() {
            return self.finished.swap(true, Ordering::SeqCst) || is_finished;
        }
        is_finished
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
    }

    /// There will be no more items.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_closed() || self.finished.load(Ordering::SeqCst)
    }

    /// And nothing is on its way, which `done` would overtake.
    pub(crate) fn is_over(&self) -> bool {
        self.is_finished() && self.demands.are_settled()
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// There are no more, and nobody has been told why.
    pub(crate) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }

    /// Nothing will come any more, but for what is on the way: `false` while something is about to
    /// be sent. Idempotent.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::SeqCst);
        let is_settled = self.demands.cancel();
        if first {
            self.lease.close_iterator(self.id);
            if self.owns_lease {
                self.lease.end();
            }
        }
        is_settled
    }

    fn askers(&self) -> MutexGuard<'_, Vec<LocalPid>> {
        // Whole after each operation, whatever panicked.
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rustler::resource_impl]
impl Resource for Stream {
    /// The consumer died, or another that has asked.
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if pid == self.consumer {
            self.close();
        } else {
            self.askers().retain(|asker| *asker != pid);
            self.demands.cancel_those_of(pid);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}
