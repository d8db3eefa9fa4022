//! GIL turns: which worker may attach next.
//!
//! One thread runs Python at a time. The GIL makes sure of that, but at a cost: every thread that
//! wants it wakes up, sleeps on its condition variable, and is woken by a timer. Here a worker that
//! is called while another holds the turn stays parked, and the holder passes the turn on, with one
//! system call, when it has no work or its slice is over. A holder without work and without waiters
//! keeps the turn and spins for a moment: so at most one thread spins, and it sees the calls that
//! come meanwhile.
//!
//! The turn is advice: nothing breaks if two threads think that they hold it, or none, since the
//! GIL protects Python. So the monitor may take the turn from a worker whose job lasts, which may
//! sleep without the GIL. Go's scheduler does the same for threads in system calls (`sysmon` and
//! `retake` in `runtime/proc.go`).
//!
//! A worker is parked, or holds the turn and works, or holds it and spins, or works without it;
//! `docs/internals/gil.md` draws the states and argues that no call is lost. In short: a submitter
//! adds work first and calls then; a worker declares that it is parked first and looks for work
//! then, with a fence in between on both sides.
//!
//! Called on scheduler threads (`call`, `call_one`, which never block) and on workers, which park
//! detached. The lock is held for a few instructions, never while attaching.

mod park;
mod preempt;
mod worker_handle;

use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::Duration;

use py_engine::lock::lock;

pub(crate) use park::GilTurn;
pub(crate) use worker_handle::{IdleWorkers, WorkerHandle, WorkerWaker};

/// The scheduler of the one interpreter's GIL.
static GIL: GilScheduler = GilScheduler::new();

/// A queue of work that any worker of it may do. The scheduler calls the methods, also under its
/// lock, so they take no lock.
pub(crate) trait RunQueue: Send + Sync {
    /// Returns `true` if a worker that looks at the queue finds something to do.
    fn has_work(&self) -> bool;
    fn idle_workers(&self) -> &IdleWorkers;
}

enum Waiter {
    WorkerHandle(Arc<WorkerHandle>),
    /// Any idle worker of this queue.
    RunQueue(Arc<dyn RunQueue>),
}

struct GilScheduler {
    state: Mutex<State>,
    /// The length of `waiters`, to be read without the lock.
    waiting: AtomicUsize,
    /// The address of the holder's queue, to be compared without the lock.
    queue: AtomicPtr<()>,
    /// The monitor sleeps, or is about to: adding a waiter has to wake it.
    is_unwatched: AtomicBool,
    /// The worker that has got the GIL last, as an address to compare: perhaps it has ended.
    last: AtomicPtr<WorkerHandle>,
}

struct State {
    holder: Option<Arc<WorkerHandle>>,
    /// The run queue that the holder serves; `None` if the holder serves a lease.
    queue: Option<Arc<dyn RunQueue>>,
    /// The waiters for the turn, first come first served.
    waiters: VecDeque<Waiter>,
    /// The monitor's thread, while it sleeps.
    monitor: Option<Thread>,
}

/// The place of a worker among those that share the GIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The worker has got the GIL last. Its code may have released it since.
    Holds,
    /// The worker has waited for so long.
    Waits(Duration),
    Neither,
}

/// Returns the place of a worker; one that has no work may count as the holder. Called on any thread.
pub(crate) fn turn(worker: &Arc<WorkerHandle>) -> Turn {
    let asked_at = *lock(&worker.asked_at);
    match asked_at {
        Some(since) => Turn::Waits(since.elapsed()),
        None if ptr::eq(worker.gil.last.load(Ordering::Relaxed), &raw const **worker) => {
            Turn::Holds
        }
        None => Turn::Neither,
    }
}

/// Starts the monitor. Runs once, before any worker.
pub(crate) fn start() -> io::Result<()> {
    preempt::start(&GIL)
}

/// Wakes this worker, or queues it for the turn: there is work for it. Called on any thread after
/// the work was added; never blocks.
pub(crate) fn call(worker: &Arc<WorkerHandle>) {
    worker.gil.call(worker);
}

/// Wakes a worker of this queue, or queues the queue for the turn: there is work in it. Called on
/// any thread after the work was added; never blocks.
pub(crate) fn call_one<D: RunQueue + 'static>(queue: &Arc<D>) {
    GIL.call_one(queue);
}

impl GilScheduler {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                holder: None,
                queue: None,
                waiters: VecDeque::new(),
                monitor: None,
            }),
            waiting: AtomicUsize::new(0),
            queue: AtomicPtr::new(ptr::null_mut()),
            is_unwatched: AtomicBool::new(false),
            last: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn call(&self, worker: &Arc<WorkerHandle>) {
        fence(Ordering::SeqCst);
        if worker.awake.load(Ordering::SeqCst) {
            return;
        }
        let mut state = self.lock();
        if worker.awake.swap(true, Ordering::SeqCst) {
            return;
        }
        worker.ask();
        let woken = if state.holder.is_none() {
            Some(self.grant(&mut state, worker, None))
        } else {
            self.enqueue(&mut state, Waiter::WorkerHandle(Arc::clone(worker)))
        };
        drop(state);
        wake(woken);
    }

    fn call_one<D: RunQueue + 'static>(&self, queue: &Arc<D>) {
        fence(Ordering::SeqCst);
        let idle_workers = queue.idle_workers();
        let is_served = ptr::addr_eq(self.queue.load(Ordering::SeqCst), Arc::as_ptr(queue));
        if (is_served || idle_workers.waits.load(Ordering::SeqCst))
            && !self.is_unwatched.load(Ordering::SeqCst)
        {
            return;
        }
        let mut state = self.lock();
        let woken = if state.serves(&**queue) {
            self.wake_monitor(&mut state)
        } else if idle_workers.waits.load(Ordering::SeqCst) || idle_workers.idle().is_empty() {
            // No worker is idle: each looks at the queue before it parks.
            None
        } else if state.holder.is_none() {
            let queue = Arc::clone(queue) as Arc<dyn RunQueue>;
            self.grant_one(&mut state, &queue)
        } else {
            idle_workers.waits.store(true, Ordering::SeqCst);
            let queue = Arc::clone(queue) as Arc<dyn RunQueue>;
            self.enqueue(&mut state, Waiter::RunQueue(queue))
        };
        drop(state);
        wake(woken);
    }

    /// Adds a waiter. Returns the monitor's thread if the caller has to wake it.
    fn enqueue(&self, state: &mut State, waiter: Waiter) -> Option<Thread> {
        state.waiters.push_back(waiter);
        self.count(state);
        self.wake_monitor(state)
    }

    /// Returns the monitor's thread if the caller has to wake it: the monitor sleeps, and the
    /// holder might be stuck. A holder that spins sees a new waiter itself.
    fn wake_monitor(&self, state: &mut State) -> Option<Thread> {
        let spins = |holder: &Arc<WorkerHandle>| holder.spins.load(Ordering::SeqCst);
        if state.holder.as_ref().is_some_and(spins) {
            return None;
        }
        self.is_unwatched.store(false, Ordering::SeqCst);
        state.monitor.take()
    }

    /// Grants the turn to a worker. Returns its thread, which the caller has to wake.
    fn grant(
        &self,
        state: &mut State,
        worker: &Arc<WorkerHandle>,
        queue: Option<Arc<dyn RunQueue>>,
    ) -> Thread {
        self.set_queue(state, queue);
        state.holder = Some(Arc::clone(worker));
        worker.ask();
        worker.is_holder.store(true, Ordering::SeqCst);
        worker.granted.store(true, Ordering::Release);
        worker.thread.clone()
    }

    /// Grants the turn to an idle worker of a queue; `None` if there is no idle worker.
    fn grant_one(&self, state: &mut State, queue: &Arc<dyn RunQueue>) -> Option<Thread> {
        // The worker that went idle last has the warmest caches.
        let worker = queue.idle_workers().idle().pop()?;
        Some(self.grant(state, &worker, Some(Arc::clone(queue))))
    }

    fn set_queue(&self, state: &mut State, queue: Option<Arc<dyn RunQueue>>) {
        let address = queue.as_ref().map_or(ptr::null_mut(), |queue| {
            Arc::as_ptr(queue).cast_mut().cast()
        });
        self.queue.store(address, Ordering::SeqCst);
        state.queue = queue;
    }

    /// Takes the turn from its holder, and grants it to the first waiter. Returns the thread of
    /// that worker, which the caller has to wake, or `None` if there is no waiter.
    fn pass_on(&self, state: &mut State) -> Option<Thread> {
        if let Some(holder) = state.holder.take() {
            holder.is_holder.store(false, Ordering::SeqCst);
        }
        self.set_queue(state, None);
        let mut next = None;
        while next.is_none()
            && let Some(waiter) = state.waiters.pop_front()
        {
            next = match waiter {
                Waiter::WorkerHandle(worker) => Some(self.grant(state, &worker, None)),
                Waiter::RunQueue(queue) => {
                    queue.idle_workers().waits.store(false, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    queue
                        .has_work()
                        .then(|| self.grant_one(state, &queue))
                        .flatten()
                }
            };
        }
        self.count(state);
        next
    }

    /// Passes the turn on from a holder that will not look at its queue again, because it is stuck
    /// or ends: the queue becomes a waiter, so that other workers do the work in it.
    fn retake(&self, state: &mut State) -> Option<Thread> {
        if let Some(queue) = state.queue.take()
            && !queue.idle_workers().waits.swap(true, Ordering::SeqCst)
        {
            state.waiters.push_back(Waiter::RunQueue(queue));
        }
        self.pass_on(state)
    }

    /// Returns `true` if there is a waiter other than `served`, the queue of the holder, which
    /// looks at it next. Drops waiting queues without work.
    fn others_wait(&self, served: Option<&dyn RunQueue>) -> bool {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let waits = |waiter: &Waiter| {
            let Waiter::RunQueue(queue) = waiter else {
                return true;
            };
            let waits = &queue.idle_workers().waits;
            waits.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let is_served = served.is_some_and(|served| ptr::addr_eq(served, &**queue));
            let stays = !is_served && queue.has_work();
            waits.store(stays, Ordering::SeqCst);
            stays
        };
        let mut state = self.lock();
        state.waiters.retain(waits);
        self.count(&state);
        !state.waiters.is_empty()
    }

    fn count(&self, state: &State) {
        self.waiting.store(state.waiters.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn serves(&self, queue: &dyn RunQueue) -> bool {
        self.queue
            .as_ref()
            .is_some_and(|served| ptr::addr_eq(&**served, queue))
    }
}

fn wake(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}

#[cfg(test)]
mod tests;
