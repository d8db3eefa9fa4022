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

mod monitor;
mod rest;

use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

pub(crate) use rest::Turn;

/// One interpreter, one GIL.
static TURNS: Turns = Turns::new();

/// Work that any of a crew may do.
pub(crate) trait Desk: Send + Sync {
    fn has_work(&self) -> bool;
    fn crew(&self) -> &Crew;
}

/// The workers of a desk.
#[derive(Default)]
pub(crate) struct Crew {
    /// Used under the lock of the turns only.
    idle: Mutex<Vec<Arc<Seat>>>,
    /// The desk is among those who wait for the turn.
    waits: AtomicBool,
}

/// A worker, for those who call it.
pub(crate) struct Seat {
    turns: &'static Turns,
    thread: Thread,
    /// It looks for work before it rests: nobody needs to call it. Changes under the lock.
    awake: AtomicBool,
    /// Its turn has come. Set under the lock, taken by the worker.
    granted: AtomicBool,
    /// It has the turn. Changes under the lock.
    is_holder: AtomicBool,
    /// It has the turn, no work, and its eyes open.
    spins: AtomicBool,
    /// How many jobs it has begun.
    begun: AtomicU64,
}

enum Waiter {
    Seat(Arc<Seat>),
    /// Any idle worker of it.
    Desk(Arc<dyn Desk>),
}

struct Turns {
    state: Mutex<State>,
    /// How many wait, to be looked at without the lock.
    waiting: AtomicUsize,
}

struct State {
    holder: Option<Arc<Seat>>,
    /// First come, first served.
    waiters: VecDeque<Waiter>,
    /// The monitor, while it sleeps.
    monitor: Option<Thread>,
}

/// Starts the monitor. Runs once, before any worker.
pub(crate) fn init() -> io::Result<()> {
    monitor::start(&TURNS)
}

/// There is work for this worker. Never blocks.
pub(crate) fn call(seat: &Arc<Seat>) {
    seat.turns.call(seat);
}

/// There is work for one of the workers of this desk. Never blocks.
pub(crate) fn call_one<D: Desk + 'static>(desk: &Arc<D>) {
    TURNS.call_one(desk);
}

impl Turns {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                holder: None,
                waiters: VecDeque::new(),
                monitor: None,
            }),
            waiting: AtomicUsize::new(0),
        }
    }

    fn call(&self, seat: &Arc<Seat>) {
        fence(Ordering::SeqCst);
        if seat.awake.load(Ordering::SeqCst) {
            return;
        }
        let mut state = self.lock();
        if seat.awake.swap(true, Ordering::SeqCst) {
            return;
        }
        let woken = if state.holder.is_none() {
            Some(state.grant(seat))
        } else {
            self.enqueue(&mut state, Waiter::Seat(Arc::clone(seat)))
        };
        drop(state);
        wake(woken);
    }

    fn call_one<D: Desk + 'static>(&self, desk: &Arc<D>) {
        fence(Ordering::SeqCst);
        let crew = desk.crew();
        if crew.waits.load(Ordering::SeqCst) {
            return;
        }
        let mut state = self.lock();
        if crew.waits.load(Ordering::SeqCst) || crew.idle().is_empty() {
            // Those who are busy look for work before they rest.
            return;
        }
        let woken = if state.holder.is_none() {
            state.grant_one(crew)
        } else {
            crew.waits.store(true, Ordering::SeqCst);
            let desk = Arc::clone(desk) as Arc<dyn Desk>;
            self.enqueue(&mut state, Waiter::Desk(desk))
        };
        drop(state);
        wake(woken);
    }

    /// Returns the monitor if it has to be woken.
    fn enqueue(&self, state: &mut State, waiter: Waiter) -> Option<Thread> {
        state.waiters.push_back(waiter);
        self.count(state);
        let spins = |holder: &Arc<Seat>| holder.spins.load(Ordering::SeqCst);
        if state.holder.as_ref().is_some_and(spins) {
            // It sees those who wait by itself.
            return None;
        }
        state.monitor.take()
    }

    /// Takes the turn from its holder, and gives it to the next, who has to be woken, or to nobody.
    fn pass_on(&self, state: &mut State) -> Option<Thread> {
        if let Some(holder) = state.holder.take() {
            holder.is_holder.store(false, Ordering::SeqCst);
        }
        let mut next = None;
        while next.is_none()
            && let Some(waiter) = state.waiters.pop_front()
        {
            next = match waiter {
                Waiter::Seat(seat) => Some(state.grant(&seat)),
                Waiter::Desk(desk) => {
                    let crew = desk.crew();
                    crew.waits.store(false, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    desk.has_work().then(|| state.grant_one(crew)).flatten()
                }
            };
        }
        self.count(state);
        next
    }

    /// Whether anybody waits but those of `own`, who has the turn and looks for work next.
    fn others_wait(&self, state: &mut State, own: Option<&dyn Desk>) -> bool {
        let waits = |waiter: &Waiter| {
            let Waiter::Desk(desk) = waiter else {
                return true;
            };
            let waits = &desk.crew().waits;
            waits.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let is_own = own.is_some_and(|own| ptr::addr_eq(own, &**desk));
            let stays = !is_own && desk.has_work();
            waits.store(stays, Ordering::SeqCst);
            stays
        };
        if !state.waiters.is_empty() {
            state.waiters.retain(waits);
            self.count(state);
        }
        !state.waiters.is_empty()
    }

    fn count(&self, state: &State) {
        self.waiting.store(state.waiters.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after each assignment, whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the turn to a worker, which has to be woken.
    fn grant(&mut self, seat: &Arc<Seat>) -> Thread {
        self.holder = Some(Arc::clone(seat));
        seat.is_holder.store(true, Ordering::SeqCst);
        seat.granted.store(true, Ordering::Release);
        seat.thread.clone()
    }

    fn grant_one(&mut self, crew: &Crew) -> Option<Thread> {
        // The last that went idle has the warmest caches.
        let seat = crew.idle().pop()?;
        Some(self.grant(&seat))
    }
}

impl Crew {
    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Of the calling thread.
    fn new(turns: &'static Turns) -> Arc<Self> {
        Arc::new(Self {
            turns,
            thread: thread::current(),
            awake: AtomicBool::new(true),
            granted: AtomicBool::new(false),
            is_holder: AtomicBool::new(false),
            spins: AtomicBool::new(false),
            begun: AtomicU64::new(0),
        })
    }

    fn is_holder(&self) -> bool {
        self.is_holder.load(Ordering::Relaxed)
    }
}

fn wake(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}

#[cfg(test)]
mod tests;
