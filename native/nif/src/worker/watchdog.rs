//! Sees to it that code which must stop does, and that a thread which cannot stop costs the pool
//! nothing: such a thread is abandoned, and another takes its place.
//!
//! A thread of its own. It never attaches, so no Python code and no GIL can hold it up; the
//! interrupter does what needs the GIL. It sleeps until somebody rings, and then looks again
//! only as long as there is something to stop.

use std::sync::Arc;
use std::time::Instant;
use std::{io, thread};

use py_engine::interrupt::notify_interrupter;

use super::{releaser, thread as worker_thread};
use crate::atoms;
use crate::error::Error;
use crate::host::refuse_tasks;
use crate::job::ReplyBuffer;
use crate::pool::Pool;
use crate::vm::VM;
use crate::watch::{self, Limits, Role, Task, WatchedThread, abandoned, threads};

/// Starts the watchdog. Runs once, before any worker.
pub(crate) fn start() -> io::Result<()> {
    let builder = thread::Builder::new().name("py_watchdog".to_owned());
    builder.spawn(run).map(|_detached| ())
}

fn run() {
    let mut watching_until = None;
    loop {
        let limits = watch::limits();
        let now = Instant::now();
        let mut again = round(now, limits);
        if watch::is_watching() {
            let until = *watching_until.get_or_insert(now + limits.grace);
            if until <= now {
                watching_until = None;
                watch::end_watching();
                // Once more, for a thread that found the watchdog awake and did not notify.
                again = earliest(again, round(now, limits));
            } else {
                again = earliest(again, Some(until));
            }
        }
        VM.watchdog.wait(again);
    }
}

/// Looks at every slot, and says when to look again.
fn round(now: Instant, limits: Limits) -> Option<Instant> {
    let mut again = None;
    let mut raise = false;
    for watched in threads() {
        let next_step = watched.inspect(now, &limits);
        raise |= next_step.raise;
        again = earliest(again, next_step.again);
        for job in next_step.answer {
            ReplyBuffer::new().interrupt(&job);
        }
        if let Some(tasks) = next_step.abandoned {
            abandon(&watched, &tasks, limits);
        }
    }
    if raise {
        notify_interrupter();
    }
    fill_places(limits);
    refuse_forgotten();
    for pool in watch::pools() {
        for lease in pool.take_ended() {
            lease.notify_ended(&mut ReplyBuffer::new());
        }
    }
    again
}

/// What came into a closed pool after its last worker had left.
fn refuse_forgotten() {
    let threads = threads();
    let is_served = |pool: &Arc<Pool>| {
        let serves =
            |thread: &Arc<WatchedThread>| thread.pool().is_some_and(|p| Arc::ptr_eq(p, pool));
        threads.iter().any(serves)
    };
    for pool in watch::pools() {
        if pool.is_closed() && !is_served(&pool) {
            pool.refuse_excess(&mut ReplyBuffer::new());
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The thread goes on in `tasks` as long as it likes; what it owned is set free.
fn abandon(watched: &WatchedThread, tasks: &[Task], limits: Limits) {
    let (id, pool) = match &watched.role {
        Role::Worker(id, pool) => (*id, pool),
        Role::Releaser => {
            refuse(tasks, &mut ReplyBuffer::new());
            return watch::set_releaser_is_missing(true);
        }
        Role::Guest => return refuse(tasks, &mut ReplyBuffer::new()),
    };
    let fate = if pool.is_closed() {
        None
    } else if abandoned() <= room(limits) {
        // This one is counted already.
        worker_thread::start(pool, id);
        Some(atoms::abandoned())
    } else {
        pool.lose(id);
        Some(atoms::not_replaced())
    };
    let mut replies = ReplyBuffer::new();
    if let Some(lease) = tasks.iter().find_map(Task::lease) {
        if matches!(tasks.first(), Some(Task::Job(..))) {
            lease.finish_job();
        }
        refuse_tasks(lease, &mut replies);
        lease.end();
        lease.leave(&mut replies, || Error::ContextNotBound);
    }
    refuse(tasks, &mut replies);
    pool.refuse_excess(&mut replies);
    if let Some(fate) = fate {
        replies.notify(&pool.manager, (atoms::py_worker(), id, fate));
    }
}

/// Whoever waits for the tasks has waited in vain.
fn refuse(tasks: &[Task], replies: &mut ReplyBuffer) {
    for task in tasks {
        if let Task::Job(job, _) = task {
            replies.refuse(job, Error::Interrupted);
        }
    }
}

/// An abandoned thread that ends makes room for one that was not replaced.
fn fill_places(limits: Limits) {
    if watch::releaser_is_missing() && abandoned() <= room(limits) {
        // Without a thread for it objects are kept: there is no memory for one.
        watch::set_releaser_is_missing(releaser::spawn().is_err());
    }
    for pool in open_pools() {
        while abandoned() < room(limits)
            && let Some(id) = pool.regain()
        {
            worker_thread::start(&pool, id);
            ReplyBuffer::new().notify(&pool.manager, (atoms::py_worker(), id, atoms::replaced()));
        }
    }
}

/// How many abandoned threads there may be: those that nobody has replaced, and so many more.
fn room(limits: Limits) -> usize {
    let missing: usize = open_pools().iter().map(|pool| pool.missing()).sum();
    missing.saturating_add(limits.max_abandoned)
}

fn open_pools() -> Vec<Arc<Pool>> {
    let mut pools = watch::pools();
    pools.retain(|pool| !pool.is_closed());
    pools
}
