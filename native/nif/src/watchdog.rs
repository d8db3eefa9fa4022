//! Sees to it that code which must stop does, and that a thread which cannot stop costs the pool
//! nothing: such a thread is abandoned, and another takes its place.
//!
//! A thread of its own. It never attaches, so no Python code and no GIL can hold it up; the
//! interrupter does what needs the GIL. It sleeps until somebody rings, and then looks again
//! only as long as there is something to stop.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use once_cell::sync::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::atoms;
use crate::context::Lease;
use crate::error::Error;
use crate::job::Job;
use crate::pool::Pool;
use crate::reply::Outbox;
use crate::slot::{Role, Slot, Task};
use crate::{flights, interrupt, release, thread as worker_thread};

static BELL: OnceCell<Sender<()>> = OnceCell::new();
/// The watchdog is awake, or will be, for those who clean.
static WATCHING: AtomicBool = AtomicBool::new(false);
/// Threads that were abandoned and have not ended.
static ABANDONED: AtomicUsize = AtomicUsize::new(0);
/// The thread that releases objects was abandoned, and has no successor yet.
static RELEASER_IS_MISSING: AtomicBool = AtomicBool::new(false);
/// Locked for the length of an operation on the list, never while attaching.
static SLOTS: Mutex<Vec<Arc<Slot>>> = Mutex::new(Vec::new());
/// Leases of whose end `py_pool` is to be told. Locked for a push, or to take them all.
static ENDED: Mutex<Vec<Arc<Lease>>> = Mutex::new(Vec::new());
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());
static LIMITS: Mutex<Limits> = Mutex::new(Limits {
    grace: Duration::from_secs(1),
    import_grace: Duration::from_mins(1),
    max_abandoned: 16,
});

/// The last start of the application says what they are.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// How long code has to stop before its thread is abandoned.
    pub(crate) grace: Duration,
    /// How long an import may go on after that its code has to stop.
    pub(crate) import_grace: Duration,
    /// How many abandoned threads are replaced.
    pub(crate) max_abandoned: usize,
}

/// Starts the watchdog. Runs once, before any worker.
pub(crate) fn init() -> io::Result<()> {
    let (bell, rings) = bounded(1);
    // Python is started once.
    let _: Result<(), _> = BELL.set(bell);
    let builder = thread::Builder::new().name("py_watchdog".to_owned());
    builder.spawn(move || run(&rings)).map(|_detached| ())
}

/// A job that runs must stop, or a place can be filled: asks for a round. Never blocks.
pub(crate) fn ring() {
    if let Some(bell) = BELL.get() {
        // Full: a round is due already.
        let _: Result<(), _> = bell.try_send(());
    }
}

/// Somebody has begun to clean, and may get stuck. Costs a system call now and then only: a
/// watchdog that was woken by it stays awake for a while.
pub(crate) fn watch() {
    if !WATCHING.load(Ordering::SeqCst) && !WATCHING.swap(true, Ordering::SeqCst) {
        ring();
    }
}

/// Under the lock of the slot that is abandoned, so before its thread can end.
pub(crate) fn count_abandoned() {
    ABANDONED.fetch_add(1, Ordering::SeqCst);
}

/// Tells `py_pool` that this lease has ended. Runs in destructors, on any thread: one push under a
/// lock.
pub(crate) fn tell_ended(lease: &Arc<Lease>) {
    lock(&ENDED).push(Arc::clone(lease));
    ring();
}

pub(crate) fn guard(pool: &Arc<Pool>, limits: Limits) {
    *lock(&LIMITS) = limits;
    let mut pools = lock(&POOLS);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}

/// The slot of the calling thread, until it is given to `unregister`.
pub(crate) fn register(role: Role) -> Arc<Slot> {
    let slot = Slot::new(role);
    lock(&SLOTS).push(Arc::clone(&slot));
    slot
}

/// The last that a thread does with its slot; `false` when it had been abandoned.
pub(crate) fn unregister(slot: &Arc<Slot>) -> bool {
    lock(&SLOTS).retain(|other| !Arc::ptr_eq(other, slot));
    let kept = !slot.is_abandoned();
    if !kept {
        ABANDONED.fetch_sub(1, Ordering::SeqCst);
        // There may be a place to fill.
        ring();
    }
    kept
}

pub(crate) fn slots() -> Vec<Arc<Slot>> {
    lock(&SLOTS).clone()
}

/// How many threads were abandoned and have not ended, in the whole VM.
pub(crate) fn abandoned() -> usize {
    ABANDONED.load(Ordering::SeqCst)
}

/// Whether Python code runs in one of our threads. Runs on the thread that ends the VM.
pub(crate) fn is_busy() -> bool {
    slots().iter().any(|slot| slot.is_busy())
}

/// Interrupts the job that `is_it` knows; `true` when its caller will hear of it. Runs on a
/// scheduler thread: holds one lock at a time, for a few instructions.
pub(crate) fn interrupt(is_it: impl Fn(&Job, Option<&Lease>) -> bool) -> bool {
    let found = slots().iter().any(|slot| slot.interrupt(&is_it));
    if found {
        ring();
    }
    found
}

fn run(rings: &Receiver<()>) {
    let mut watching_until = None;
    loop {
        let limits = *lock(&LIMITS);
        let now = Instant::now();
        let mut again = round(now, limits);
        if WATCHING.load(Ordering::SeqCst) {
            let until = *watching_until.get_or_insert(now + limits.grace);
            if until <= now {
                watching_until = None;
                WATCHING.store(false, Ordering::SeqCst);
                // Once more, for who found the watchdog awake and did not ring.
                again = earliest(again, round(now, limits));
            } else {
                again = earliest(again, Some(until));
            }
        }
        let rung = match again {
            Some(instant) => rings.recv_deadline(instant),
            None => rings.recv().map_err(RecvTimeoutError::from),
        };
        if rung == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Looks at every slot, and says when to look again.
fn round(now: Instant, limits: Limits) -> Option<Instant> {
    let mut again = None;
    let mut raise = false;
    for slot in slots() {
        let verdict = slot.inspect(now, &limits);
        raise |= verdict.raise;
        again = earliest(again, verdict.again);
        for job in verdict.answer {
            Outbox::new().interrupt(&job);
        }
        if let Some(tasks) = verdict.abandoned {
            abandon(&slot, &tasks, limits);
        }
    }
    if raise {
        interrupt::ring();
    }
    fill_places(limits);
    refuse_forgotten();
    let ended = std::mem::take(&mut *lock(&ENDED));
    for lease in ended {
        lease.tell_ended(&mut Outbox::new());
    }
    again
}

/// What came into a closed pool after its last worker had left.
fn refuse_forgotten() {
    let pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    let slots = slots();
    let is_served = |pool: &Arc<Pool>| {
        let serves = |slot: &Arc<Slot>| slot.pool().is_some_and(|p| Arc::ptr_eq(p, pool));
        slots.iter().any(serves)
    };
    for pool in pools {
        if pool.is_closed() && !is_served(&pool) {
            pool.refuse_excess(&mut Outbox::new());
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The thread of `slot` goes on in `tasks` as long as it likes; what it owned is set free.
fn abandon(slot: &Slot, tasks: &[Task], limits: Limits) {
    let (id, pool) = match &slot.role {
        Role::Worker(id, pool) => (*id, pool),
        Role::Releaser => {
            refuse(tasks, &mut Outbox::new());
            return RELEASER_IS_MISSING.store(true, Ordering::SeqCst);
        }
        Role::Guest => return refuse(tasks, &mut Outbox::new()),
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
    let mut outbox = Outbox::new();
    if let Some(lease) = tasks.iter().find_map(Task::lease) {
        if matches!(tasks.first(), Some(Task::Job(..))) {
            lease.finish_job();
        }
        flights::refuse(lease, &mut outbox);
        lease.end();
        lease.leave(&mut outbox, || Error::ContextNotBound);
    }
    refuse(tasks, &mut outbox);
    pool.refuse_excess(&mut outbox);
    if let Some(fate) = fate {
        outbox.note(&pool.manager, (atoms::py_worker(), id, fate));
    }
}

/// Whoever waits for the tasks has waited in vain.
fn refuse(tasks: &[Task], outbox: &mut Outbox) {
    for task in tasks {
        if let Task::Job(job, _) = task {
            outbox.refuse(job, Error::Interrupted);
        }
    }
}

/// An abandoned thread that ends makes room for one that was not replaced.
fn fill_places(limits: Limits) {
    if RELEASER_IS_MISSING.load(Ordering::SeqCst) && abandoned() <= room(limits) {
        // Without a thread for it objects are kept: there is no memory for one.
        RELEASER_IS_MISSING.store(release::spawn().is_err(), Ordering::SeqCst);
    }
    for pool in open_pools() {
        while abandoned() < room(limits)
            && let Some(id) = pool.regain()
        {
            worker_thread::start(&pool, id);
            Outbox::new().note(&pool.manager, (atoms::py_worker(), id, atoms::replaced()));
        }
    }
}

/// How many abandoned threads there may be: those that nobody has replaced, and so many more.
fn room(limits: Limits) -> usize {
    let missing: usize = open_pools().iter().map(|pool| pool.missing()).sum();
    missing.saturating_add(limits.max_abandoned)
}

fn open_pools() -> Vec<Arc<Pool>> {
    let mut pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    pools.retain(|pool| !pool.is_closed());
    pools
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole after each assignment, whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
