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
mod seat;

use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

pub(crate) use rest::Turn;
pub(crate) use seat::{Crew, Seat};

/// One interpreter, one GIL.
static TURNS: Turns = Turns::new();

/// Work that any of a crew may do.
pub(crate) trait Desk: Send + Sync {
    fn has_work(&self) -> bool;
    fn crew(&self) -> &Crew;
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
    /// The desk of the holder, to be compared without the lock.
    desk: AtomicPtr<()>,
    /// The monitor sleeps, or is about to.
    is_unwatched: AtomicBool,
}

struct State {
    holder: Option<Arc<Seat>>,
    /// What the holder serves, unless it is alone.
    desk: Option<Arc<dyn Desk>>,
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
                desk: None,
                waiters: VecDeque::new(),
                monitor: None,
            }),
            waiting: AtomicUsize::new(0),
            desk: AtomicPtr::new(ptr::null_mut()),
            is_unwatched: AtomicBool::new(false),
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
            Some(self.grant(&mut state, seat, None))
        } else {
            self.enqueue(&mut state, Waiter::Seat(Arc::clone(seat)))
        };
        drop(state);
        wake(woken);
    }

    fn call_one<D: Desk + 'static>(&self, desk: &Arc<D>) {
        fence(Ordering::SeqCst);
        let crew = desk.crew();
        let is_served = ptr::addr_eq(self.desk.load(Ordering::SeqCst), Arc::as_ptr(desk));
        if (is_served || crew.waits.load(Ordering::SeqCst))
            && !self.is_unwatched.load(Ordering::SeqCst)
        {
            return;
        }
        let mut state = self.lock();
        let woken = if state.serves(&**desk) {
            self.wake_monitor(&mut state)
        } else if crew.waits.load(Ordering::SeqCst) || crew.idle().is_empty() {
            // Those who are busy look for work before they rest.
            None
        } else if state.holder.is_none() {
            let desk = Arc::clone(desk) as Arc<dyn Desk>;
            self.grant_one(&mut state, &desk)
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
        self.wake_monitor(state)
    }

    /// Returns the monitor if it sleeps, and the holder might be stuck: one that spins sees who
    /// comes.
    fn wake_monitor(&self, state: &mut State) -> Option<Thread> {
        let spins = |holder: &Arc<Seat>| holder.spins.load(Ordering::SeqCst);
        if state.holder.as_ref().is_some_and(spins) {
            return None;
        }
        self.is_unwatched.store(false, Ordering::SeqCst);
        state.monitor.take()
    }

    /// Gives the turn to a worker, which has to be woken.
    fn grant(&self, state: &mut State, seat: &Arc<Seat>, desk: Option<Arc<dyn Desk>>) -> Thread {
        self.set_desk(state, desk);
        state.holder = Some(Arc::clone(seat));
        seat.is_holder.store(true, Ordering::SeqCst);
        seat.granted.store(true, Ordering::Release);
        seat.thread.clone()
    }

    fn grant_one(&self, state: &mut State, desk: &Arc<dyn Desk>) -> Option<Thread> {
        // The last that went idle has the warmest caches.
        let seat = desk.crew().idle().pop()?;
        Some(self.grant(state, &seat, Some(Arc::clone(desk))))
    }

    fn set_desk(&self, state: &mut State, desk: Option<Arc<dyn Desk>>) {
        let address = desk
            .as_ref()
            .map_or(ptr::null_mut(), |desk| Arc::as_ptr(desk).cast_mut().cast());
        self.desk.store(address, Ordering::SeqCst);
        state.desk = desk;
    }

    /// Takes the turn from its holder, and gives it to the next, who has to be woken, or to nobody.
    fn pass_on(&self, state: &mut State) -> Option<Thread> {
        if let Some(holder) = state.holder.take() {
            holder.is_holder.store(false, Ordering::SeqCst);
        }
        self.set_desk(state, None);
        let mut next = None;
        while next.is_none()
            && let Some(waiter) = state.waiters.pop_front()
        {
            next = match waiter {
                Waiter::Seat(seat) => Some(self.grant(state, &seat, None)),
                Waiter::Desk(desk) => {
                    desk.crew().waits.store(false, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    desk.has_work()
                        .then(|| self.grant_one(state, &desk))
                        .flatten()
                }
            };
        }
        self.count(state);
        next
    }

    /// As `pass_on`, from a holder who will not look at its desk again, being stuck or gone: others
    /// can do what is left there.
    fn retake(&self, state: &mut State) -> Option<Thread> {
        if let Some(desk) = state.desk.take()
            && !desk.crew().waits.swap(true, Ordering::SeqCst)
        {
            state.waiters.push_back(Waiter::Desk(desk));
        }
        self.pass_on(state)
    }

    /// Whether anybody waits but those of `own`, who has the turn and looks for work next.
    fn others_wait(&self, own: Option<&dyn Desk>) -> bool {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return false;
        }
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
        let mut state = self.lock();
        state.waiters.retain(waits);
        self.count(&state);
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
    fn serves(&self, desk: &dyn Desk) -> bool {
        self.desk
            .as_ref()
            .is_some_and(|own| ptr::addr_eq(&**own, desk))
    }
}

fn wake(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}

#[cfg(test)]
mod tests;
