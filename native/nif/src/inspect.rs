//! The NIFs of `py:dump/0`, `py:top/0` and `py:profile/2`. Each runs on a dirty scheduler, since there may be
//! thousands of workers; none attaches or waits. What needs the GIL is done by the inspector, which sends a
//! message.

use rustler::{Encoder, Env, LocalPid, NifResult, Term};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use py_engine::inspect::{self, Finish, Sample, View};

use crate::atoms;
use crate::gil::Turn;
use crate::host::JobHost;
use crate::pool::{Lease, LeaseWorker, Pool, lease_of};
use crate::process::{self, Receiver};
use crate::stacks::{Stacks, send_profile, send_stacks};
use crate::watch::{self, Running, WatchedThread, WorkerState, job_key};

/// Returns `{{Pool, Worker}, State, Calls, Tasks, Gil, Lease}` for each worker that serves a lease, or runs a
/// job without one, and for each lease that no worker serves yet; with a lease as `target`, for that alone.
///
/// Asks for the stacks, too: also returns how many messages `{py_stacks, Number, [{Index, Stack,
/// Tasks}]}` the calling process will get, if no C code keeps a GIL for ever. Index is the place of the worker
/// in the list, from 0.
#[rustler::nif(schedule = "DirtyCpu")]
fn dump<'a>(env: Env<'a>, number: u64, target: Term<'a>) -> NifResult<(Vec<Term<'a>>, usize)> {
    let only = if atoms::none() == target {
        None
    } else {
        Some(lease_of(target)?)
    };
    let wanted = |lease: &Arc<Lease>| only.as_ref().is_none_or(|only| Arc::ptr_eq(only, lease));
    // First: a lease that is served meanwhile is found at its worker.
    let mut waiting = leases();
    waiting.retain(|lease| wanted(lease) && !lease.is_ended() && lease.worker().is_none());
    let mut threads: Vec<_> = threads().collect();
    let mut children = process::look();
    let is_wanted = |state: &WorkerState| match &state.lease {
        Some(lease) => wanted(lease),
        None => only.is_none(),
    };
    threads.retain(|(_, state)| is_wanted(state));
    children.retain(|(_, state)| is_wanted(state));
    let states = threads.iter().map(|(_, state)| state);
    let states: Vec<_> = states
        .chain(children.iter().map(|(_, state)| state))
        .collect();
    let served = states.iter().filter_map(|state| state.lease.as_ref());
    let served: HashSet<_> = served.map(|lease| lease.id).collect();
    waiting.retain(|lease| !served.contains(&lease.id));
    let mut terms: Vec<_> = states.iter().map(|state| worker_term(env, state)).collect();
    terms.extend(waiting.iter().map(|lease| waiting_term(env, lease)));

    let pid = env.pid();
    let first_child = threads.len();
    let asked = children
        .iter()
        .enumerate()
        .filter(|(index, (child, state))| {
            let index = first_child + index;
            state.has_stacks() && child.ask_stacks(number, Receiver { pid, index })
        });
    let messages = asked.count();
    let mut looked: Vec<_> = threads.into_iter().enumerate().collect();
    looked.retain(|(_, (_, state))| state.has_stacks());
    if looked.is_empty() {
        return Ok((terms, messages));
    }
    let look = move |view: &View<'_>| look(view, looked, pid, number);
    let is_asked = inspect::look(Box::new(look)).is_ok();
    Ok((terms, messages + usize::from(is_asked)))
}

type LookedThread = (Arc<WatchedThread>, WorkerState);

fn threads() -> impl Iterator<Item = LookedThread> {
    watch::threads().into_iter().filter_map(|thread| {
        let state = thread.look()?;
        Some((thread, state))
    })
}

fn leases() -> Vec<Arc<Lease>> {
    let pools = watch::pools();
    pools.iter().flat_map(|pool| pool.all_leases()).collect()
}

fn worker_term<'a>(env: Env<'a>, state: &WorkerState) -> Term<'a> {
    let jobs = |jobs: &[Running]| {
        let job = |running: &Running| {
            let text = running.job.describe(env);
            (
                running.key,
                running.job.caller,
                milliseconds(running.time),
                text,
            )
        };
        jobs.iter().map(job).collect::<Vec<_>>()
    };
    let turn = match state.turn {
        None => atoms::own().encode(env),
        Some(Turn::Holds) => atoms::holds().encode(env),
        Some(Turn::Waits(time)) => (atoms::waits(), milliseconds(time)).encode(env),
        Some(Turn::Neither) => atoms::none().encode(env),
    };
    let (calls, tasks) = (jobs(&state.calls), jobs(&state.tasks));
    let lease = lease_term(env, state.lease.as_ref());
    let place = (pool_term(env, &state.pool), state.worker);
    (place, state.state, calls, tasks, turn, lease).encode(env)
}

/// Returns the same of a lease that no worker serves yet.
fn waiting_term<'a>(env: Env<'a>, lease: &Arc<Lease>) -> Term<'a> {
    let (none, empty) = (atoms::none(), Term::list_new_empty(env));
    let place = (pool_term(env, lease.pool()), none);
    let lease = lease_term(env, Some(lease));
    (place, atoms::starting(), empty, empty, none, lease).encode(env)
}

/// Returns `{Name, Level}`.
fn pool_term<'a>(env: Env<'a>, pool: &Pool) -> Term<'a> {
    let level = if pool.has_processes() {
        atoms::process()
    } else {
        atoms::thread()
    };
    (pool.name, level).encode(env)
}

/// Returns `{Id, Kind, Owner, Queued}`, or `none`.
fn lease_term<'a>(env: Env<'a>, lease: Option<&Arc<Lease>>) -> Term<'a> {
    match lease {
        Some(lease) => {
            let owner = lease.owner;
            (lease.id, owner.kind, owner.pid, lease.queued()).encode(env)
        }
        None => atoms::none().encode(env),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the stacks of threads. Called by the inspector, attached. `threads` keep the jobs by whose keys the
/// tasks are known, until the message is sent.
fn look(
    view: &View<'_>,
    threads: Vec<(usize, LookedThread)>,
    receiver: LocalPid,
    number: u64,
) -> Finish {
    let read = |(index, (watched, _)): &(usize, LookedThread)| {
        let tasks = view.tasks(&watched.thread).into_iter();
        let tasks = tasks.filter_map(|(host, frames)| {
            let job = JobHost::of(&*host)?.job()?;
            Some((job_key(job), frames))
        });
        Stacks {
            index: *index,
            stack: view.stack(&watched.thread),
            tasks: tasks.collect(),
        }
    };
    let found: Vec<_> = threads.iter().map(read).collect();
    Box::new(move || {
        send_stacks(receiver, number, &found);
        drop(threads);
    })
}

/// Has the code of a lease sampled for some milliseconds: the calling process gets `{py_profile, Number,
/// Folded}`. Returns `false` if no worker serves the lease, or too much waits for the GIL.
#[rustler::nif(schedule = "DirtyCpu")]
fn profile(env: Env<'_>, target: Term<'_>, milliseconds: u32, number: u64) -> NifResult<bool> {
    let lease = lease_of(target)?;
    let receiver = env.pid();
    if lease.is_ended() {
        return Ok(false);
    }
    match lease.worker() {
        Some(LeaseWorker::Process(worker)) => {
            return Ok(worker.profile(lease.id, receiver, number, milliseconds));
        }
        Some(LeaseWorker::Thread(_)) => {}
        None => return Ok(false),
    }
    let sample = move || {
        if lease.is_ended() {
            return Sample::Ended;
        }
        let mut threads = watch::threads().into_iter();
        match threads.find(|thread| thread.serves(&lease)) {
            Some(watched) if watched.is_busy() => Sample::Thread(Arc::clone(&watched.thread)),
            Some(_) | None => Sample::Idle,
        }
    };
    let finish = move |folded: String| send_profile(receiver, number, Some(&folded));
    let time = Duration::from_millis(milliseconds.into());
    Ok(inspect::profile(time, sample, finish).is_ok())
}
