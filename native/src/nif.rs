//! Every NIF, in the order of `src/py_nif.erl`. Runs on scheduler threads: nothing here
//! attaches, blocks or sends, except `start_python`, which has a dirty scheduler and may wait.

use rustler::schedule::consume_timeslice;
use rustler::{Atom, Encoder, Env, Error as NifError, NifResult, ResourceArc, Term};
use std::sync::Arc;
use std::time::Instant;

use crate::atoms;
use crate::context::{Context, End, Lease, LeaseHandle};
use crate::error::Error;
use crate::job::Job;
use crate::pool::{Pool, PoolHandle};
use crate::ticket::{Cancel, Handle, Ticket};
use crate::{python, worker};

/// `{error, Reason}` is the NIF's return value; nothing will be sent.
type Refusable<T> = Result<T, Refusal>;

struct Refusal(Error);

impl Encoder for Refusal {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.0.encode(env)
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn start_python<'a>(env: Env<'a>, executable: &str) -> Term<'a> {
    match python::start(executable) {
        Ok(()) => atoms::ok().encode(env),
        Err(text) => env.error_tuple(text),
    }
}

#[rustler::nif]
fn open_pool(env: Env<'_>, size: usize, max_pending: usize) -> NifResult<ResourceArc<PoolHandle>> {
    let pool = Pool::new(size, max_pending, env.pid());
    PoolHandle::open(env, pool).ok_or(NifError::BadArg)
}

#[rustler::nif]
fn close_pool(pool: ResourceArc<PoolHandle>) -> Atom {
    pool.0.close();
    atoms::ok()
}

#[rustler::nif]
fn start_worker<'a>(env: Env<'a>, pool: ResourceArc<PoolHandle>, id: u64) -> Term<'a> {
    match worker::spawn(Arc::clone(&pool.0), id) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => env.error_tuple(error.to_string()),
    }
}

#[rustler::nif]
fn pool_info(pool: ResourceArc<PoolHandle>) -> (usize, usize, usize) {
    (pool.0.size(), pool.0.leased(), pool.0.pending.count())
}

#[rustler::nif]
fn lease(pool: ResourceArc<PoolHandle>) -> Refusable<ResourceArc<LeaseHandle>> {
    let lease = pool.0.lease().map_err(Refusal)?;
    Ok(ResourceArc::new(LeaseHandle(lease)))
}

#[rustler::nif]
fn end_lease(lease: ResourceArc<LeaseHandle>) -> Atom {
    match lease.0.end() {
        End::Idle => atoms::idle(),
        End::Busy => atoms::busy(),
        End::Already => atoms::already(),
    }
}

#[rustler::nif]
fn lease_id(target: Term<'_>) -> NifResult<u64> {
    Ok(lease_of(target)?.id)
}

#[rustler::nif]
fn is_leased(target: Term<'_>) -> NifResult<bool> {
    Ok(!lease_of(target)?.is_ended())
}

#[rustler::nif]
fn context(lease: ResourceArc<LeaseHandle>) -> ResourceArc<Context> {
    ResourceArc::new(Context(Arc::clone(&lease.0)))
}

#[rustler::nif]
fn submit<'a>(
    env: Env<'a>,
    target: Term<'a>,
    reference: Term<'a>,
    job: Term<'a>,
) -> NifResult<Refusable<ResourceArc<Handle>>> {
    let start = Instant::now();
    let target = Target::decode(target)?;
    Job::check(job)?;
    let Some(ticket) = Ticket::open(&target.pool().pending) else {
        return Ok(Err(Refusal(Error::Overloaded)));
    };
    let mut job = Job::accept(env, reference, job, Arc::clone(&ticket));
    let submitted = match target {
        Target::Pool(pool) => pool.submit(job),
        Target::Lease(lease) => lease.submit(job),
        Target::Context(context) => {
            let lease = Arc::clone(&context.0);
            job.context = Some(context);
            lease.submit(job)
        }
    };
    charge(env, start);
    Ok(submitted
        .map(|()| ResourceArc::new(Handle(ticket)))
        .map_err(Refusal))
}

#[rustler::nif]
fn cancel(ticket: ResourceArc<Handle>) -> Atom {
    match ticket.0.cancel() {
        Cancel::Cancelled => atoms::cancelled(),
        Cancel::Replied => atoms::replied(),
    }
}

/// Who a job is for.
enum Target {
    Context(ResourceArc<Context>),
    Lease(Arc<Lease>),
    Pool(Arc<Pool>),
}

impl Target {
    fn decode(term: Term<'_>) -> NifResult<Self> {
        if let Ok(context) = term.decode() {
            return Ok(Self::Context(context));
        }
        if let Ok(lease) = lease_of(term) {
            return Ok(Self::Lease(lease));
        }
        let pool: ResourceArc<PoolHandle> = term.decode()?;
        Ok(Self::Pool(Arc::clone(&pool.0)))
    }

    fn pool(&self) -> &Arc<Pool> {
        match self {
            Self::Context(context) => context.0.pool(),
            Self::Lease(lease) => lease.pool(),
            Self::Pool(pool) => pool,
        }
    }
}

fn lease_of(term: Term<'_>) -> NifResult<Arc<Lease>> {
    if let Ok(context) = term.decode::<ResourceArc<Context>>() {
        return Ok(Arc::clone(&context.0));
    }
    let lease: ResourceArc<LeaseHandle> = term.decode()?;
    Ok(Arc::clone(&lease.0))
}

/// The copy of big arguments takes its time: the caller pays for it in reductions, a whole
/// timeslice being about one millisecond.
fn charge(env: Env<'_>, start: Instant) {
    let percent = start.elapsed().as_micros() / 10;
    if percent > 0 {
        let percent = i32::try_from(percent.min(100)).unwrap_or(100);
        consume_timeslice(env, percent);
    }
}
