//! Every NIF, in the order of `src/py_nif.erl`. Runs on scheduler threads: nothing here
//! attaches, blocks or sends, except `start_python`, which has a dirty scheduler and may wait.

use rustler::schedule::consume_timeslice;
use rustler::{Atom, Encoder, Env, Error as NifError, LocalPid, NifResult, ResourceArc, Term};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::host::Outgoing;
use crate::job::{CallbackHandle, Cancel, Job, Outcome, ReplyTo};
use crate::pool::{Context, End, LeaseHandle, Pool, PoolHandle, SubmissionHandle};
use crate::stream::Stream;
use crate::target::{Target, lease_of};
use crate::term::small_map;
use crate::vm::VM;
use crate::watch::{self, Limits};
use crate::{atoms, host, start, worker};

/// `{error, Reason}` is the NIF's return value; nothing will be sent.
type Refusable<T> = Result<T, Refusal>;

struct Refusal(Error);

// The Python objects of an exception are not looked at by a NIF, which has no attachment.
impl RefUnwindSafe for Refusal {}

impl Encoder for Refusal {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.0.encode(env)
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn start_python<'a>(env: Env<'a>, executable: &str) -> Term<'a> {
    match start::start(executable) {
        Ok(()) => atoms::ok().encode(env),
        Err(text) => env.error_tuple(text),
    }
}

#[rustler::nif]
fn open_pool(
    env: Env<'_>,
    size: usize,
    max_pending: usize,
    interrupt_grace: u64,
    import_grace: u64,
    max_abandoned: usize,
) -> NifResult<ResourceArc<PoolHandle>> {
    let grace = Duration::from_millis(interrupt_grace);
    let pool = Pool::new(size, max_pending, env.pid());
    watch::guard(
        &pool,
        Limits {
            grace,
            import_grace: Duration::from_millis(import_grace),
            max_abandoned,
        },
    );
    PoolHandle::open(env, pool).ok_or(NifError::BadArg)
}

#[rustler::nif]
fn close_pool(pool: ResourceArc<PoolHandle>) -> Atom {
    pool.0.close();
    atoms::ok()
}

/// By its manager, or by the death of that.
#[rustler::nif]
fn is_closed(pool: ResourceArc<PoolHandle>) -> bool {
    pool.0.is_closed()
}

#[rustler::nif]
fn start_worker<'a>(env: Env<'a>, pool: ResourceArc<PoolHandle>, id: u64) -> Term<'a> {
    match worker::spawn(Arc::clone(&pool.0), id) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => env.error_tuple(error.to_string()),
    }
}

/// The counters of a pool, and how many threads are abandoned in the whole VM.
#[rustler::nif]
fn pool_info(env: Env<'_>, pool: ResourceArc<PoolHandle>) -> Term<'_> {
    let pool = &pool.0;
    let counts = [
        (atoms::size(), pool.size()),
        (atoms::leased(), pool.leased()),
        (atoms::pending(), pool.pending.count()),
        (atoms::abandoned(), watch::abandoned()),
        (
            atoms::left_threads(),
            pool.left_threads.load(Ordering::Relaxed),
        ),
    ];
    small_map(env, &counts.map(|(key, count)| (key, count.encode(env))))
}

/// How many values of each kind are alive in the whole VM.
#[rustler::nif]
fn resources(env: Env<'_>) -> Term<'_> {
    let counts = [
        (atoms::jobs(), &VM.counts.jobs),
        (atoms::contexts(), &VM.counts.leases),
        (atoms::objects(), &VM.counts.objects),
        (atoms::callbacks(), &VM.counts.callbacks),
        (atoms::streams(), &VM.counts.streams),
    ];
    small_map(
        env,
        &counts.map(|(key, live)| (key, live.count().encode(env))),
    )
}

#[rustler::nif]
fn lease(pool: ResourceArc<PoolHandle>) -> Refusable<ResourceArc<LeaseHandle>> {
    let lease = pool.0.lease().map_err(Refusal)?;
    Ok(ResourceArc::new(LeaseHandle(lease)))
}

#[rustler::nif]
fn end_lease(lease: ResourceArc<LeaseHandle>) -> Atom {
    match lease.0.end_by_pool() {
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

/// No job of it is under way.
#[rustler::nif]
fn is_idle(lease: ResourceArc<LeaseHandle>) -> bool {
    lease.0.is_idle()
}

/// Jobs that have come to it so far.
#[rustler::nif]
fn submitted(lease: ResourceArc<LeaseHandle>) -> usize {
    lease.0.submitted()
}

/// Ends it if no job is under way, and no more than these have come.
#[rustler::nif]
fn end_idle(lease: ResourceArc<LeaseHandle>, submitted: usize) -> bool {
    lease.0.end_idle(submitted)
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
    callers: Term<'a>,
) -> NifResult<Refusable<ResourceArc<SubmissionHandle>>> {
    let target = Target::decode(target)?;
    let start = (!Job::check(job)?.is_small()).then(Instant::now);
    let Some(ticket) = target.open_ticket() else {
        return Ok(Err(Refusal(Error::Overloaded)));
    };
    let request = (reference, job, callers).encode(env);
    let job = Job::accept(env, request, ticket, target.placement(), ReplyTo::Caller);
    let submitted = target.submit(job);
    if let Some(start) = start {
        charge(env, start);
    }
    Ok(submitted
        .map(|submission| ResourceArc::new(SubmissionHandle::new(submission)))
        .map_err(Refusal))
}

#[rustler::nif]
fn cancel(call: ResourceArc<SubmissionHandle>) -> Atom {
    match call.submission.cancel() {
        Cancel::Cancelled => atoms::cancelled(),
        Cancel::Replied => atoms::replied(),
    }
}

/// Its reply is not sent, nor about to be.
#[rustler::nif]
fn is_pending(call: ResourceArc<SubmissionHandle>) -> bool {
    call.submission.is_pending()
}

/// The calling process awaits the reply; `false` if it has done that before.
#[rustler::nif]
fn take(call: ResourceArc<SubmissionHandle>) -> bool {
    call.take()
}

#[rustler::nif]
fn interrupt(target: Term<'_>) -> NifResult<bool> {
    if let Ok(caller) = target.decode::<LocalPid>() {
        return Ok(watch::interrupt(|job, _| job.caller == caller));
    }
    let id = lease_of(target)?.id;
    Ok(watch::interrupt(|_, lease| {
        lease.is_some_and(|lease| lease.id == id)
    }))
}

/// The calling process serves Python code from here on, and has these functions.
#[rustler::nif]
fn serve_callbacks(env: Env<'_>, functions: Vec<String>) -> Atom {
    host::serve(env.pid(), functions.into_iter().collect());
    atoms::ok()
}

/// Python code finds one more name.
#[rustler::nif]
fn add_function(name: String) -> Atom {
    host::add_function(name);
    atoms::ok()
}

#[rustler::nif]
fn remove_function(name: &str) -> Atom {
    host::remove_function(name);
    atoms::ok()
}

/// The first answer counts.
#[rustler::nif]
fn answer(env: Env<'_>, callback: ResourceArc<CallbackHandle>, outcome: Term<'_>) -> Atom {
    let start = Instant::now();
    let outcome = Outcome::answered(outcome);
    callback.0.callback.answer(Box::new(outcome));
    charge(env, start);
    atoms::ok()
}

/// A message for another node does not wait any more.
#[rustler::nif]
fn sent(outgoing: ResourceArc<Outgoing>) -> Atom {
    outgoing.leave();
    atoms::ok()
}

/// A stream in a lease, for the calling process; `own`: the lease was made for it.
#[rustler::nif]
fn stream(env: Env<'_>, target: Term<'_>, own: bool) -> NifResult<ResourceArc<Stream>> {
    let context = target.decode::<ResourceArc<Context>>().ok();
    Stream::open(env, lease_of(target)?, context, own).ok_or(NifError::BadArg)
}

/// A demand of the calling process, which must be the consumer of the stream.
#[rustler::nif]
fn stream_next<'a>(
    env: Env<'a>,
    stream: ResourceArc<Stream>,
    count: usize,
    callers: Term<'a>,
    current: Term<'a>,
) -> NifResult<Refusable<Atom>> {
    if !stream.is_consumer(env.pid()) {
        return Err(NifError::BadArg);
    }
    // The consumer answers a callback of that very lease: the demand is met in the middle of the
    // code that waits for the answer.
    let within = current.decode::<(ResourceArc<CallbackHandle>, u64)>();
    let within = within.ok().filter(|(_, lease)| *lease == stream.lease.id);
    let within = within.map(|(callback, _)| Arc::clone(&callback.0));
    Ok(Stream::ask(&stream, env, count, callers, within).map_err(Refusal))
}

/// Returns `sending` while the message of a demand is about to be sent.
#[rustler::nif]
fn stream_close(stream: ResourceArc<Stream>) -> Atom {
    if stream.close() {
        atoms::ok()
    } else {
        atoms::sending()
    }
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
