//! Whose turn it is to run Python.
//!
//! One thread runs Python at a time. The GIL sees to that, but dearly: every thread that wants it
//! wakes up, goes to sleep on it again, and is woken by a timer. Here a worker that is called while
//! another has the turn goes on sleeping, and whoever has the turn hands it on, with one system
//! call, when it runs out of work or its slice is over. The last one keeps it and spins for a
//! moment: so one thread at most spins, and it passes on the calls that come meanwhile.
//!
//! The turn is advice: nothing is wrong if two threads think they have it, or none, since the GIL
//! is what protects Python. So it is taken away from a worker whose job lasts, which may well be
//! asleep without the GIL. Go's scheduler does the same for threads in system calls (`sysmon` and
//! `retake` in `runtime/proc.go`).
//!
//! Scheduler threads and workers call; workers rest, detached. Whoever adds work adds it first and
//! calls then; whoever rests says so first and looks for work then, with a fence in between. The
//! lock is held for a few instructions.

mod park;
mod preempt;
mod worker_handle;

use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;

use py_engine::lock::lock;

pub(crate) use park::GilTurn;
pub(crate) use worker_handle::{IdleWorkers, WorkerHandle, WorkerWaker};

/// One interpreter, one GIL.
static GIL: GilScheduler = GilScheduler::new();

/// Work that any of a idle_workers may do.
pub(crate) trait RunQueue: Send + Sync {
    fn has_work(&self) -> bool;
    fn idle_workers(&self) -> &IdleWorkers;
}

enum Waiter {
    WorkerHandle(Arc<WorkerHandle>),
    /// Any idle worker of it.
    RunQueue(Arc<dyn RunQueue>),
}

struct GilScheduler {
    state: Mutex<State>,
    /// How many wait, to be looked at without the lock.
    waiting: AtomicUsize,
    /// The queue of the holder, to be compared without the lock.
    queue: AtomicPtr<()>,
    /// The monitor sleeps, or is about to.
    is_unwatched: AtomicBool,
}

struct State {
    holder: Option<Arc<WorkerHandle>>,
    /// What the holder serves, unless it is alone.
    queue: Option<Arc<dyn RunQueue>>,
    /// First come, first served.
    waiters: VecDeque<Waiter>,
    /// The monitor, while it sleeps.
    monitor: Option<Thread>,
}

/// Starts the monitor. Runs once, before any worker.
pub(crate) fn start() -> io::Result<()> {
    preempt::start(&GIL)
}

/// There is work for this worker. Never blocks.
pub(crate) fn call(worker: &Arc<WorkerHandle>) {
    worker.gil.call(worker);
}

/// There is work for one of the workers of this queue. Never blocks.
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
            // Those who are busy look for work before they rest.
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

    /// Returns the monitor if it has to be woken.
    fn enqueue(&self, state: &mut State, waiter: Waiter) -> Option<Thread> {
        state.waiters.push_back(waiter);
        self.count(state);
        self.wake_monitor(state)
    }

    /// Returns the monitor if it sleeps, and the holder might be stuck: one that spins sees who
    /// comes.
    fn wake_monitor(&self, state: &mut State) -> Option<Thread> {
        let spins = |holder: &Arc<WorkerHandle>| holder.spins.load(Ordering::SeqCst);
        if state.holder.as_ref().is_some_and(spins) {
            return None;
        }
        self.is_unwatched.store(false, Ordering::SeqCst);
        state.monitor.take()
    }

    /// Gives the turn to a worker, which has to be woken.
    fn grant(
        &self,
        state: &mut State,
        worker: &Arc<WorkerHandle>,
        queue: Option<Arc<dyn RunQueue>>,
    ) -> Thread {
        self.set_queue(state, queue);
        state.holder = Some(Arc::clone(worker));
        worker.is_holder.store(true, Ordering::SeqCst);
        worker.granted.store(true, Ordering::Release);
        worker.thread.clone()
    }

    fn grant_one(&self, state: &mut State, queue: &Arc<dyn RunQueue>) -> Option<Thread> {
        // The last that went idle has the warmest caches.
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

    /// Takes the turn from its holder, and gives it to the next, who has to be woken, or to nobody.
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

    /// As `pass_on`, from a holder who will not look at its queue again, being stuck or gone: others
    /// can do what is left there.
    fn retake(&self, state: &mut State) -> Option<Thread> {
        if let Some(queue) = state.queue.take()
            && !queue.idle_workers().waits.swap(true, Ordering::SeqCst)
        {
            state.waiters.push_back(Waiter::RunQueue(queue));
        }
        self.pass_on(state)
    }

    /// Whether anybody waits but those of `own`, who has the turn and looks for work next.
    fn others_wait(&self, own: Option<&dyn RunQueue>) -> bool {
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
            let is_own = own.is_some_and(|own| ptr::addr_eq(own, &**queue));
            let stays = !is_own && queue.has_work();
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
            .is_some_and(|own| ptr::addr_eq(&**own, queue))
    }
}

fn wake(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}

#[cfg(test)]
mod tests;
