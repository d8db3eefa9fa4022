//! The queue that a job is submitted to, by the handle that Erlang names. Called by the NIFs on
//! scheduler threads: nothing attaches, blocks or sends.

use rustler::{Error as NifError, NifResult, ResourceArc, Term};
use std::sync::{Arc, Mutex, Weak};

use super::{Context, JobQueue, Lease, LeaseHandle, Pool, PoolHandle, Submission};
use crate::atoms;
use crate::error::Error;
use crate::job::{CallbackHandle, CallbackQueue, Job, Placement, Ticket};

/// The thing that a job is submitted to.
pub(crate) enum Target {
    Context(ResourceArc<Context>),
    Lease(Arc<Lease>),
    Pool(Arc<Pool>),
    /// The thread that waits for the answer of this callback.
    Callback(Arc<CallbackQueue>),
}

impl Target {
    /// `{context, Handle}` is nothing but a context or a lease; a handle alone may be any target.
    pub(crate) fn decode(term: Term<'_>) -> NifResult<Self> {
        if let Ok((mark, handle)) = term.decode::<(Term<'_>, Term<'_>)>() {
            return if atoms::context() == mark {
                Self::lease(handle)
            } else {
                Err(NifError::BadArg)
            };
        }
        if let Ok(target) = Self::lease(term) {
            return Ok(target);
        }
        if let Ok(callback) = term.decode::<ResourceArc<CallbackHandle>>() {
            return Ok(Self::Callback(Arc::clone(&callback.0)));
        }
        let pool: ResourceArc<PoolHandle> = term.decode()?;
        Ok(Self::Pool(Arc::clone(&pool.0)))
    }

    fn lease(term: Term<'_>) -> NifResult<Self> {
        match term.decode() {
            Ok(context) => Ok(Self::Context(context)),
            Err(_) => lease_of(term).map(Self::Lease),
        }
    }

    pub(crate) fn placement(&self) -> Placement {
        match self {
            Self::Context(context) => {
                Placement::Context(Mutex::new(Some(Box::new(context.clone()))))
            }
            Self::Callback(callback) => Placement::Within(callback.job.clone()),
            Self::Lease(_) | Self::Pool(_) => Placement::Anywhere,
        }
    }

    /// Opens a ticket; `None` if the pool has `max_pending` open ones. A callback has no bound.
    pub(crate) fn open_ticket(&self) -> Option<Arc<Ticket>> {
        match self {
            Self::Context(context) => Ticket::open(&context.0.pool().pending),
            Self::Lease(lease) => Ticket::open(&lease.pool().pending),
            Self::Pool(pool) => Ticket::open(&pool.pending),
            Self::Callback(callback) => Some(Ticket::admit(&callback.pending)),
        }
    }

    pub(crate) fn submit(&self, job: Arc<Job>) -> Result<Submission, Error> {
        let ticket = Arc::clone(&job.ticket);
        let (queue, key): (Weak<dyn JobQueue>, u64) = match self {
            Self::Pool(pool) => (Arc::downgrade(pool) as _, pool.submit(job)?),
            Self::Lease(lease) => (Arc::downgrade(lease) as _, lease.submit(job)?),
            Self::Context(context) => (Arc::downgrade(&context.0) as _, context.0.submit(job)?),
            Self::Callback(callback) => (Arc::downgrade(callback) as _, callback.submit(job)?),
        };
        Ok(Submission::new(ticket, queue, key))
    }
}

/// Returns the lease of a context, or of the handle that `py_pool` holds. Raises `badarg` for
/// another term.
pub(crate) fn lease_of(term: Term<'_>) -> NifResult<Arc<Lease>> {
    if let Ok(context) = term.decode::<ResourceArc<Context>>() {
        return Ok(Arc::clone(&context.0));
    }
    let lease: ResourceArc<LeaseHandle> = term.decode()?;
    Ok(Arc::clone(&lease.0))
}
