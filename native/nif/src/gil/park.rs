//! What a worker knows of its own gil, and how it waits for the next.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use super::{GIL, GilScheduler, IdleWorkers, RunQueue, WorkerHandle, wake};

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

pub(crate) struct GilTurn {
    worker: Arc<WorkerHandle>,
    since: Instant,
    /// Jobs begun since the last look at the clock.
    jobs: u32,
    /// The turn has come and no job has begun since. One may, even if it was taken away meanwhile.
    is_fresh: bool,
    patience: Duration,
}

impl GilTurn {
    /// Of the calling thread, which does not have it yet.
    pub(crate) fn new() -> Self {
        Self::among(&GIL)
    }

    pub(super) fn among(gil: &'static GilScheduler) -> Self {
        Self {
            worker: WorkerHandle::new(gil),
            since: Instant::now(),
            jobs: 0,
            is_fresh: false,
            patience: MAX_SPIN,
        }
    }

    pub(crate) fn worker(&self) -> &Arc<WorkerHandle> {
        &self.worker
    }

    /// Whether the next job may begin at once. If not, `rest` comes first, detached, which also
    /// gives threads that are no workers their chance at the GIL.
    pub(crate) fn may_continue(&mut self) -> bool {
        if self.is_fresh {
            return true;
        }
        if !self.worker.is_holder() {
            return false;
        }
        if self.jobs < JOBS {
            return true;
        }
        self.jobs = 0;
        self.since.elapsed() < SLICE
    }

    /// This worker does other work than that of its queue from here on.
    pub(crate) fn leave_queue<D: RunQueue + 'static>(&self, queue: &Arc<D>) {
        let gil = self.worker.gil;
        let mut state = gil.lock();
        if self.worker.is_holder() {
            gil.set_queue(&mut state, None);
        }
        drop(state);
        if queue.has_work() {
            gil.call_one(queue);
        }
    }

    /// The next may have the turn, though this worker goes on: it waits for other things than the
    /// turn, as an event loop does.
    pub(crate) fn yield_turn(&mut self) {
        self.is_fresh = false;
        if self.worker.is_holder() {
            let gil = self.worker.gil;
            let next = gil.pass_on(&mut gil.lock());
            wake(next);
        }
    }

    /// A job begins.
    pub(crate) fn begin(&mut self) {
        self.is_fresh = false;
        self.jobs += 1;
        // Written here only.
        let begun = self.worker.begun.load(Ordering::Relaxed);
        self.worker.begun.store(begun + 1, Ordering::Relaxed);
    }

    /// Returns when it is this worker's turn, in general with work. Blocks, so detached. Meanwhile
    /// the worker is called by its queue, or by its worker if it has no queue.
    pub(crate) fn park<D: RunQueue + 'static>(
        &mut self,
        queue: Option<&Arc<D>>,
        has_work: impl Fn() -> bool,
    ) {
        if !self.stays(queue.map(|queue| &**queue as &dyn RunQueue), &has_work) {
            let start = Instant::now();
            self.leave(queue.map(|queue| queue.idle_workers()));
            fence(Ordering::SeqCst);
            if has_work() {
                match queue {
                    Some(queue) => self.worker.gil.call_one(queue),
                    None => self.worker.gil.call(&self.worker),
                }
            }
            while !self.worker.granted.swap(false, Ordering::Acquire) {
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
    fn stays(&mut self, queue: Option<&dyn RunQueue>, has_work: &impl Fn() -> bool) -> bool {
        let gil = self.worker.gil;
        if !self.worker.is_holder() {
            return false;
        }
        if gil.others_wait(queue) {
            return self.since.elapsed() < SLICE
                && self.spin(self.patience.min(MAX_WAIT), has_work)
                && self.worker.is_holder();
        }
        if !has_work() {
            self.worker.spins.store(true, Ordering::SeqCst);
            let waiting = &gil.waiting;
            let is_called = || has_work() || waiting.load(Ordering::Relaxed) > 0;
            self.spin(self.patience, is_called);
            self.worker.spins.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !has_work() {
                return false;
            }
            if gil.others_wait(queue) {
                // They have left the monitor alone, since this thread was spinning.
                let monitor = gil.wake_monitor(&mut gil.lock());
                wake(monitor);
            }
        }
        self.since = Instant::now();
        self.worker.is_holder()
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
    fn leave(&self, idle_workers: Option<&IdleWorkers>) {
        let worker = &self.worker;
        let mut state = worker.gil.lock();
        match idle_workers {
            Some(idle_workers) => idle_workers.idle().push(Arc::clone(worker)),
            None => worker.awake.store(false, Ordering::SeqCst),
        }
        let is_holder = worker.is_holder();
        let next = is_holder.then(|| worker.gil.pass_on(&mut state)).flatten();
        drop(state);
        wake(next);
    }
}

/// The thread ends.
impl Drop for GilTurn {
    fn drop(&mut self) {
        let worker = &self.worker;
        let mut state = worker.gil.lock();
        let is_holder = worker.is_holder();
        let next = is_holder.then(|| worker.gil.retake(&mut state)).flatten();
        drop(state);
        wake(next);
    }
}
