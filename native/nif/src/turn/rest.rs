//! What a worker knows of its own turns, and how it waits for the next.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use super::{Crew, Desk, Seat, TURNS, Turns, wake};

/// Others may wait so long while a worker goes on. A caller that has just had its answer is
/// often back in two microseconds: serving it again saves waking another thread.
const SLICE: Duration = Duration::from_micros(100);
/// Jobs between two looks at the clock, which takes as long as a tenth of a small job.
const JOBS: u32 = 4;
/// A spin lasts as long as the pauses between calls have made worth while, between these two.
const MIN_SPIN: Duration = Duration::from_micros(1);
const MAX_SPIN: Duration = Duration::from_micros(50);
/// The longest while others wait.
const MAX_WAIT: Duration = Duration::from_micros(5);

pub(crate) struct Turn {
    seat: Arc<Seat>,
    since: Instant,
    /// Jobs begun since the last look at the clock.
    jobs: u32,
    /// The turn has come and no job has begun since. One may, even if it was taken away meanwhile.
    is_fresh: bool,
    patience: Duration,
}

impl Turn {
    /// Of the calling thread, which does not have it yet.
    pub(crate) fn new() -> Self {
        Self::among(&TURNS)
    }

    pub(super) fn among(turns: &'static Turns) -> Self {
        Self {
            seat: Seat::new(turns),
            since: Instant::now(),
            jobs: 0,
            is_fresh: false,
            patience: MAX_SPIN,
        }
    }

    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Whether the next job may begin at once. If not, `rest` comes first, detached, which also
    /// gives threads that are no workers their chance at the GIL.
    pub(crate) fn goes_on(&mut self) -> bool {
        if self.is_fresh {
            return true;
        }
        if !self.seat.is_holder() {
            return false;
        }
        if self.jobs < JOBS {
            return true;
        }
        self.jobs = 0;
        self.since.elapsed() < SLICE
    }

    /// This worker does other work than that of its desk from here on.
    pub(crate) fn leave_desk<D: Desk + 'static>(&self, desk: &Arc<D>) {
        let turns = self.seat.turns;
        let mut state = turns.lock();
        if self.seat.is_holder() {
            turns.set_desk(&mut state, None);
        }
        drop(state);
        if desk.has_work() {
            turns.call_one(desk);
        }
    }

    /// The next may have the turn, though this worker goes on: it waits for other things than the
    /// turn, as an event loop does.
    pub(crate) fn give_up(&mut self) {
        self.is_fresh = false;
        if self.seat.is_holder() {
            let turns = self.seat.turns;
            let next = turns.pass_on(&mut turns.lock());
            wake(next);
        }
    }

    /// A job begins.
    pub(crate) fn begin(&mut self) {
        self.is_fresh = false;
        self.jobs += 1;
        // Written here only.
        let begun = self.seat.begun.load(Ordering::Relaxed);
        self.seat.begun.store(begun + 1, Ordering::Relaxed);
    }

    /// Returns when it is this worker's turn, in general with work. Blocks, so detached. Meanwhile
    /// the worker is called by its desk, or by its seat if it has no desk.
    pub(crate) fn rest<D: Desk + 'static>(
        &mut self,
        desk: Option<&Arc<D>>,
        has_work: impl Fn() -> bool,
    ) {
        if !self.stays(desk.map(|desk| &**desk as &dyn Desk), &has_work) {
            let start = Instant::now();
            self.leave(desk.map(|desk| desk.crew()));
            fence(Ordering::SeqCst);
            if has_work() {
                match desk {
                    Some(desk) => self.seat.turns.call_one(desk),
                    None => self.seat.turns.call(&self.seat),
                }
            }
            while !self.seat.granted.swap(false, Ordering::Acquire) {
                thread::park();
            }
            self.since = Instant::now();
            if self.since - start < MAX_SPIN {
                // A longer spin would have met this call.
                self.patience = MAX_SPIN;
            }
        }
        self.jobs = 0;
        self.is_fresh = true;
    }

    /// Keeps the turn: there is work, or will be in a moment.
    fn stays(&mut self, desk: Option<&dyn Desk>, has_work: &impl Fn() -> bool) -> bool {
        let turns = self.seat.turns;
        if !self.seat.is_holder() {
            return false;
        }
        if turns.others_wait(desk) {
            return self.since.elapsed() < SLICE
                && self.spin(self.patience.min(MAX_WAIT), has_work)
                && self.seat.is_holder();
        }
        if !has_work() {
            self.seat.spins.store(true, Ordering::SeqCst);
            let waiting = &turns.waiting;
            let is_called = || has_work() || waiting.load(Ordering::Relaxed) > 0;
            self.spin(self.patience, is_called);
            self.seat.spins.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !has_work() {
                return false;
            }
            if turns.others_wait(desk) {
                // They have left the monitor alone, since this thread was spinning.
                let monitor = turns.wake_monitor(&mut turns.lock());
                wake(monitor);
            }
        }
        self.since = Instant::now();
        self.seat.is_holder()
    }

    /// `true` when there is something to do within the time.
    fn spin(&mut self, time: Duration, is_called: impl Fn() -> bool) -> bool {
        const LOOKS: u32 = 16;
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if is_called() {
                    self.patience = (self.patience * 2).min(MAX_SPIN);
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > time {
                self.patience = (self.patience / 2).max(MIN_SPIN);
                return false;
            }
        }
    }

    /// Rests from here on, and gives the turn to the next.
    fn leave(&self, crew: Option<&Crew>) {
        let seat = &self.seat;
        let mut state = seat.turns.lock();
        match crew {
            Some(crew) => crew.idle().push(Arc::clone(seat)),
            None => seat.awake.store(false, Ordering::SeqCst),
        }
        let is_holder = seat.is_holder();
        let next = is_holder.then(|| seat.turns.pass_on(&mut state)).flatten();
        drop(state);
        wake(next);
    }
}

/// The thread ends.
impl Drop for Turn {
    fn drop(&mut self) {
        let seat = &self.seat;
        let mut state = seat.turns.lock();
        let is_holder = seat.is_holder();
        let next = is_holder.then(|| seat.turns.retake(&mut state)).flatten();
        drop(state);
        wake(next);
    }
}
