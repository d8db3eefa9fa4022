//! The watchdog: stops code that must stop, and replaces threads that cannot be stopped: such a
//! thread is abandoned, so that its pool has as many workers as before.
//!
//! Runs on the thread `py_watchdog`. It never attaches, so no Python code and no GIL can hold it
//! up; the interrupter does the part that needs the GIL. It blocks in `VM.watchdog.wait` only:
//! until it is notified, or until the next step of an escalation is due.

use std::sync::Arc;
use std::time::{Duration, Instant};
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
    let mut late = Duration::ZERO;
    loop {
        let limits = watch::limits();
        let now = Instant::now();
        let mut again = round(now, late, limits);
        if watch::is_watching_cleaning() {
            let until = *watching_until.get_or_insert(now + limits.grace);
            if until <= now {
                watching_until = None;
                watch::end_watching_cleaning();
                // A thread that found the flag set has not notified, so this round looks once more.
                again = earliest(again, round(now, Duration::ZERO, limits));
            } else {
                again = earliest(again, Some(until));
            }
        }
        VM.watchdog.wait(again);
        // A machine without a free processor, or a VM that was stopped, keeps the code from its end too.
        late = again.map_or(Duration::ZERO, |at| at.elapsed());
    }
}

/// Looks at every watched thread and every pool; returns when to look again. `late`: by how much the
/// round comes later than it should.
fn round(now: Instant, late: Duration, limits: Limits) -> Option<Instant> {
    let mut again = None;
    let mut raise = false;
    for watched in threads() {
        let next_step = watched.inspect(now, late, &limits);
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
    replace_missing(limits);
    refuse_in_unserved_pools();
    for pool in watch::pools() {
        for lease in pool.take_unreported_ends() {
            lease.notify_ended(&mut ReplyBuffer::new());
        }
    }
    again
}

/// Refuses the items that were queued in a pool that has no worker: after the last one of a closed pool
/// had left, or while no child process starts.
fn refuse_in_unserved_pools() {
    let threads = threads();
    let is_served = |pool: &Arc<Pool>| {
        let serves =
            |thread: &Arc<WatchedThread>| thread.pool().is_some_and(|p| Arc::ptr_eq(p, pool));
        threads.iter().any(serves)
    };
    for pool in watch::pools() {
        if (pool.is_closed() || pool.size() == 0) && !is_served(&pool) {
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

/// Replaces an abandoned thread, if there may be another one, and replies for its `tasks`, which it
/// goes on with. The lease that it served ends here, since the thread does not touch it any more.
fn abandon(watched: &WatchedThread, tasks: &[Task], limits: Limits) {
    let (id, pool) = match &watched.role {
        Role::Worker { id, pool, .. } => (*id, pool),
        Role::Releaser => {
            refuse(tasks, &mut ReplyBuffer::new());
            return watch::set_releaser_is_missing(true);
        }
        Role::Guest => return refuse(tasks, &mut ReplyBuffer::new()),
    };
    let event = if pool.is_closed() {
        None
    } else if abandoned() <= max_abandoned(limits) {
        // `abandoned` counts this thread already.
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
    if let Some(event) = event {
        replies.notify(&pool.manager, (atoms::py_worker(), id, event));
    }
}

/// Replies `interrupted` to the jobs of an abandoned thread, if they have no reply.
fn refuse(tasks: &[Task], replies: &mut ReplyBuffer) {
    for task in tasks {
        if let Task::Job(job, _) = task {
            replies.refuse(job, Error::Interrupted);
        }
    }
}

/// Starts the threads that were not replaced before, as far as abandoned threads have ended since.
fn replace_missing(limits: Limits) {
    if watch::releaser_is_missing() && abandoned() <= max_abandoned(limits) {
        // Without memory for a thread the objects are kept.
        watch::set_releaser_is_missing(releaser::spawn().is_err());
    }
    for pool in open_pools() {
        while abandoned() < max_abandoned(limits)
            && let Some(id) = pool.regain()
        {
            worker_thread::start(&pool, id);
            ReplyBuffer::new().notify(&pool.manager, (atoms::py_worker(), id, atoms::replaced()));
        }
    }
}

/// Returns the number of abandoned threads up to which one is replaced: those that were not
/// replaced, and `max_abandoned` more.
fn max_abandoned(limits: Limits) -> usize {
    let missing: usize = open_pools().iter().map(|pool| pool.missing()).sum();
    missing.saturating_add(limits.max_abandoned)
}

fn open_pools() -> Vec<Arc<Pool>> {
    let mut pools = watch::pools();
    pools.retain(|pool| !pool.is_closed());
    pools
}
