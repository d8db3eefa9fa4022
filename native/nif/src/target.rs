//! Where a job goes, by what Erlang names for it. Runs on scheduler threads.

use rustler::{NifResult, ResourceArc, Term};
use std::sync::{Arc, Mutex};

use crate::callback::{self, Callback};
use crate::context::{Context, Lease, LeaseHandle};
use crate::error::Error;
use crate::job::{Home, Job};
use crate::pool::{Pool, PoolHandle};
use crate::submission::Submission;
use crate::ticket::Ticket;

/// Who a job is for.
pub(crate) enum Target {
    Context(ResourceArc<Context>),
    Lease(Arc<Lease>),
    Pool(Arc<Pool>),
    /// The thread that waits for the answer.
    Callback(Arc<Callback>),
}

impl Target {
    pub(crate) fn decode(term: Term<'_>) -> NifResult<Self> {
        if let Ok(context) = term.decode() {
            return Ok(Self::Context(context));
        }
        if let Ok(lease) = lease_of(term) {
            return Ok(Self::Lease(lease));
        }
        if let Ok(callback) = term.decode::<ResourceArc<callback::Handle>>() {
            return Ok(Self::Callback(Arc::clone(&callback.0)));
        }
        let pool: ResourceArc<PoolHandle> = term.decode()?;
        Ok(Self::Pool(Arc::clone(&pool.0)))
    }

    pub(crate) fn home(&self) -> Home {
        match self {
            Self::Context(context) => Home::Context(Mutex::new(Some(context.clone()))),
            Self::Callback(callback) => Home::Within(callback.job.clone()),
            Self::Lease(_) | Self::Pool(_) => Home::Anywhere,
        }
    }

    /// `None` when too many are open.
    pub(crate) fn open_ticket(&self) -> Option<Arc<Ticket>> {
        match self {
            Self::Context(context) => Ticket::open(&context.0.pool().pending),
            Self::Lease(lease) => Ticket::open(&lease.pool().pending),
            Self::Pool(pool) => Ticket::open(&pool.pending),
            Self::Callback(callback) => Some(Ticket::admit(&callback.pending)),
        }
    }

    pub(crate) fn submit(&self, job: Arc<Job>) -> Result<Submission, Error> {
        match self {
            Self::Pool(pool) => Submission::to_pool(pool, job),
            Self::Lease(lease) => Submission::to_lease(lease, job),
            Self::Context(context) => Submission::to_lease(&context.0, job),
            Self::Callback(callback) => Submission::to_callback(callback, job),
        }
    }
}

/// Of a context, or of the handle that `py_pool` holds.
pub(crate) fn lease_of(term: Term<'_>) -> NifResult<Arc<Lease>> {
    if let Ok(context) = term.decode::<ResourceArc<Context>>() {
        return Ok(Arc::clone(&context.0));
    }
    let lease: ResourceArc<LeaseHandle> = term.decode()?;
    Ok(Arc::clone(&lease.0))
}
