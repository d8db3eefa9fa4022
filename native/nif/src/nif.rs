//! Every NIF but those of child processes (`process/nifs.rs`), in the order of `src/py_nif.erl`. A NIF runs on a
//! scheduler thread, and neither attaches, blocks nor sends; only `start_python` blocks, on a dirty scheduler.

use rustler::{Atom, Encoder, Env, Error as NifError, LocalPid, NifResult, ResourceArc, Term};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Refusable, Refusal};
use crate::host::Outgoing;
use crate::job::{CallbackHandle, Cancel, Job, ReplyTo, is_handle};
use crate::pool::{
    Context, End, Lease, LeaseHandle, Owner, Pool, PoolHandle, SubmissionHandle, lease_of,
};
use crate::stream::Stream;
use crate::term::small_map;
use crate::vm::VM;
use crate::watch::{self, Limits};
use crate::{atoms, process, start, submit, worker};

#[rustler::nif(schedule = "DirtyIo")]
fn start_python<'a>(env: Env<'a>, executable: &str, vars: Vec<(&str, &str)>) -> Term<'a> {
    match start::start(executable, &vars) {
        Ok(()) => atoms::ok().encode(env),
        Err(text) => env.error_tuple(text),
    }
}

#[rustler::nif]
fn is_object(term: Term<'_>) -> bool {
    is_handle(term)
}

#[rustler::nif]
fn open_pool(
    env: Env<'_>,
    name: Atom,
    size: usize,
    max_pending: usize,
    interrupt_grace: u64,
    import_grace: u64,
    max_abandoned: usize,
) -> NifResult<ResourceArc<PoolHandle>> {
    let grace = Duration::from_millis(interrupt_grace);
    let pool = Pool::new(name, size, max_pending, env.pid());
    let import_grace = Duration::from_millis(import_grace);
    let limits = Limits {
        grace,
        import_grace,
        max_abandoned,
    };
    watch::watch_pool(&pool, limits);
    PoolHandle::open(env, pool).ok_or(NifError::BadArg)
}

#[rustler::nif]
fn close_pool(pool: ResourceArc<PoolHandle>) -> Atom {
    pool.0.close();
    atoms::ok()
}

/// Returns `true` once `close_pool` was called, the pool's `py_pool` has died, or has dropped it.
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

/// Returns the counters of a pool, and the number of abandoned threads in the whole VM.
#[rustler::nif]
fn pool_info(env: Env<'_>, pool: ResourceArc<PoolHandle>) -> Term<'_> {
    let pool = &pool.0;
    let left_threads = pool.left_threads.load(Ordering::Relaxed);
    let totals = pool.pending.totals();
    let counts = [
        (atoms::size(), pool.size()),
        (atoms::leased(), pool.leased()),
        (atoms::pending(), pool.pending.count()),
        (atoms::abandoned(), watch::abandoned()),
        (atoms::left_threads(), left_threads),
        (atoms::leases(), pool.leases_made.load(Ordering::Relaxed)),
        (atoms::accepted(), totals.accepted),
        (atoms::replied(), totals.replied),
        (atoms::failed(), totals.failed),
        (atoms::cancelled(), totals.cancelled),
    ];
    small_map(env, &counts.map(|(key, count)| (key, count.encode(env))))
}

/// Returns the number of live values of each kind in the whole VM.
#[rustler::nif]
fn resources(env: Env<'_>) -> Term<'_> {
    let counts = [
        (atoms::jobs(), &VM.counts.jobs),
        (atoms::contexts(), &VM.counts.leases),
        (atoms::objects(), &VM.counts.objects),
        (atoms::callbacks(), &VM.counts.callbacks),
        (atoms::streams(), &VM.counts.streams),
    ];
    let counts = counts.map(|(key, live)| (key, live.count().encode(env)));
    small_map(env, &counts)
}

/// Makes a lease for the process `pid`.
#[rustler::nif]
fn lease(
    pool: ResourceArc<PoolHandle>,
    kind: Atom,
    pid: LocalPid,
) -> Refusable<ResourceArc<LeaseHandle>> {
    let lease = pool.0.lease(Owner { pid, kind }).map_err(Refusal)?;
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

/// Returns the server of the pool of a lease.
#[rustler::nif]
fn lease_manager(target: Term<'_>) -> NifResult<LocalPid> {
    Ok(lease_of(target)?.pool().manager)
}

#[rustler::nif]
fn is_leased(target: Term<'_>) -> NifResult<bool> {
    Ok(!lease_of(target)?.is_ended())
}

/// Returns `true` if the lease has no job that is queued or runs.
#[rustler::nif]
fn is_idle(lease: ResourceArc<LeaseHandle>) -> bool {
    lease.0.is_idle()
}

/// Returns the number of jobs submitted to the lease so far, refused ones included.
#[rustler::nif]
fn submitted(lease: ResourceArc<LeaseHandle>) -> usize {
    lease.0.submitted()
}

/// Ends the lease if it is idle and `submitted` jobs have come so far; `false` if it goes on.
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
    submit::submit(env, target, (reference, job, callers), ReplyTo::Caller)
}

/// Submits a job of the calling process whose reply `server` gets, which then holds the ticket.
#[rustler::nif]
fn submit_cast<'a>(
    env: Env<'a>,
    target: Term<'a>,
    reference: Term<'a>,
    job: Term<'a>,
    callers: Term<'a>,
    server: LocalPid,
) -> NifResult<Refusable<ResourceArc<SubmissionHandle>>> {
    let reply_to = ReplyTo::Server(server);
    submit::submit(env, target, (reference, job, callers), reply_to)
}

#[rustler::nif]
fn cancel(call: ResourceArc<SubmissionHandle>) -> Atom {
    match call.submission.cancel() {
        Cancel::Cancelled => atoms::cancelled(),
        Cancel::Replied => atoms::replied(),
    }
}

/// Returns `true` if the reply is neither sent nor about to be, and the job is not cancelled.
#[rustler::nif]
fn is_pending(call: ResourceArc<SubmissionHandle>) -> bool {
    call.submission.is_pending()
}

/// Claims the reply for an await; `false` if an earlier await has claimed it.
#[rustler::nif]
fn take(call: ResourceArc<SubmissionHandle>) -> bool {
    call.take()
}

#[rustler::nif]
fn interrupt(target: Term<'_>) -> NifResult<bool> {
    if let Ok(caller) = target.decode::<LocalPid>() {
        let matches = |job: &Job, _: Option<&Lease>| job.caller == caller;
        return Ok(watch::interrupt(matches) || process::interrupt(matches));
    }
    let id = lease_of(target)?.id;
    let matches = |_: &Job, lease: Option<&Lease>| lease.is_some_and(|lease| lease.id == id);
    Ok(watch::interrupt(matches) || process::interrupt(matches))
}

/// Makes the calling process, `py_callback`, the one that serves Python code, with these functions.
#[rustler::nif]
fn serve_callbacks(env: Env<'_>, functions: Vec<String>) -> Atom {
    VM.callbacks
        .serve(env.pid(), functions.into_iter().collect());
    atoms::ok()
}

/// Registers the name of one more function for Python code.
#[rustler::nif]
fn add_function(name: String) -> Atom {
    VM.callbacks.add_function(name);
    atoms::ok()
}

#[rustler::nif]
fn remove_function(name: &str) -> Atom {
    VM.callbacks.remove_function(name);
    atoms::ok()
}

/// Answers a callback. The first answer counts; a later one is ignored.
#[rustler::nif]
fn answer(env: Env<'_>, callback: ResourceArc<CallbackHandle>, outcome: Term<'_>) -> Atom {
    let start = Instant::now();
    callback.0.answer(outcome);
    submit::charge(env, start);
    atoms::ok()
}

/// Counts a message for another node as sent: it leaves room for the next.
#[rustler::nif]
fn sent(outgoing: ResourceArc<Outgoing>) -> Atom {
    outgoing.leave();
    atoms::ok()
}

/// Makes a stream in a lease, for the calling process. `owns_lease`: the lease ends with it.
#[rustler::nif]
fn stream(env: Env<'_>, target: Term<'_>, owns_lease: bool) -> NifResult<ResourceArc<Stream>> {
    let context = target.decode::<ResourceArc<Context>>().ok();
    Stream::open(env, lease_of(target)?, context, owns_lease).ok_or(NifError::BadArg)
}

/// Makes a demand. Raises `badarg` if the calling process is not the consumer of the stream.
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
    // A consumer that answers a callback of the same lease gets its items in the middle of the code
    // that waits for the answer.
    let within = current.decode::<(ResourceArc<CallbackHandle>, u64)>();
    let within = within.ok().filter(|(_, lease)| *lease == stream.lease.id);
    let within = within.map(|(callback, _)| Arc::clone(&callback.0));
    Ok(Stream::ask(&stream, env, count, callers, within).map_err(Refusal))
}

/// Closes a stream. Returns `sending` while a message is about to be sent: call again then.
#[rustler::nif]
fn stream_close(stream: ResourceArc<Stream>) -> Atom {
    if stream.close() {
        atoms::ok()
    } else {
        atoms::sending()
    }
}
