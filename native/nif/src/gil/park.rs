//! The worker's part of a GIL turn: when it may go on, and how it parks until it is called.
//!
//! Called by the worker itself. Only `park` blocks, detached; the scheduler's lock is held for a
//! few instructions.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use py_engine::lock::lock;

use super::{GIL, GilScheduler, IdleWorkers, RunQueue, WorkerHandle, wake};

/// How long a worker may go on while others wait. A caller that has just had its answer often calls
/// again within two microseconds: serving it again saves waking another thread.
const SLICE: Duration = Duration::from_micros(100);
/// Jobs between two looks at the clock; a look takes as long as a tenth of a small job.
const JOBS_PER_LOOK: u32 = 4;
/// The bounds of a spin. Within them its length follows the pauses between the last calls.
const MIN_SPIN: Duration = Duration::from_micros(1);
const MAX_SPIN: Duration = Duration::from_micros(50);
/// The bound of a spin while others wait.
const MAX_SPIN_WITH_WAITERS: Duration = Duration::from_micros(5);

pub(crate) struct GilTurn {
    worker: Arc<WorkerHandle>,
    /// The begin of the current slice.
    since: Instant,
    /// Jobs begun since the last look at the clock.
    jobs: u32,
    /// The turn was granted and no job has begun since. One job may begin, even if the monitor has
    /// taken the turn meanwhile.
    is_fresh: bool,
    /// How long the next spin lasts: doubled by a spin that meets a call, halved by one in vain.
    spin_time: Duration,
}

impl GilTurn {
    /// Makes the turn of the calling thread, which does not hold it yet.
    pub(crate) fn new() -> Self {
        Self::with_scheduler(&GIL)
    }

    pub(super) fn with_scheduler(gil: &'static GilScheduler) -> Self {
        Self {
            worker: WorkerHandle::new(gil),
            since: Instant::now(),
            jobs: 0,
            is_fresh: false,
            spin_time: MAX_SPIN,
        }
    }

    pub(crate) fn worker(&self) -> &Arc<WorkerHandle> {
        &self.worker
    }

    /// Returns `true` if the next job may begin at once. If not, the worker has to `park`,
    /// detached, which also lets threads that are no workers take the GIL.
    pub(crate) fn may_continue(&mut self) -> bool {
        if self.is_fresh {
            return true;
        }
        if !self.worker.is_holder() {
            return false;
        }
        if self.jobs < JOBS_PER_LOOK {
            return true;
        }
        self.jobs = 0;
        self.since.elapsed() < SLICE
    }

    /// Declares that the worker does not serve `queue` any more: it serves a lease now, or waits in
    /// the middle of a job. Other workers are called for the work that is left there.
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

    /// Passes the turn on, though the worker does not park: it is about to block in its event loop.
    pub(crate) fn yield_turn(&mut self) {
        self.is_fresh = false;
        if self.worker.is_holder() {
            let gil = self.worker.gil;
            let next = gil.pass_on(&mut gil.lock());
            wake(next);
        }
    }

    /// Declares that the worker has the GIL. Called after `park`, attached.
    pub(crate) fn attached(&self) {
        let worker = &self.worker;
        lock(&worker.asked_at).take();
        let address = Arc::as_ptr(worker).cast_mut();
        worker.gil.last.store(address, Ordering::Relaxed);
    }

    /// Counts a job that begins, for the slice and for the monitor.
    pub(crate) fn begin(&mut self) {
        self.is_fresh = false;
        self.jobs += 1;
        // No other thread writes the counter.
        let begun = self.worker.begun.load(Ordering::Relaxed);
        self.worker.begun.store(begun + 1, Ordering::Relaxed);
    }

    /// Parks until the turn is granted to this worker, in general because there is work; returns at
    /// once if the worker may keep the turn. Blocks, so it is called detached. Meanwhile `call_one`
    /// wakes a worker that serves `queue`, and `call` one without a queue.
    pub(crate) fn park<D: RunQueue + 'static>(
        &mut self,
        queue: Option<&Arc<D>>,
        has_work: impl Fn() -> bool,
    ) {
        if !self.keeps_turn(queue.map(|queue| &**queue as &dyn RunQueue), &has_work) {
            let start = Instant::now();
            self.pass_turn(queue.map(|queue| queue.idle_workers()));
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
                // The longest spin would have met this call.
                self.spin_time = MAX_SPIN;
            }
        }
        self.jobs = 0;
        self.is_fresh = true;
    }

    /// Returns `true` if the worker keeps the turn: it holds it, and there is work, or a spin has
    /// met some.
    fn keeps_turn(&mut self, queue: Option<&dyn RunQueue>, has_work: &impl Fn() -> bool) -> bool {
        let gil = self.worker.gil;
        if !self.worker.is_holder() {
            return false;
        }
        if gil.others_wait(queue) {
            return self.since.elapsed() < SLICE
                && self.spin(self.spin_time.min(MAX_SPIN_WITH_WAITERS), has_work)
                && self.worker.is_holder();
        }
        if !has_work() {
            self.worker.spins.store(true, Ordering::SeqCst);
            let waiting = &gil.waiting;
            let is_called = || has_work() || waiting.load(Ordering::Relaxed) > 0;
            self.spin(self.spin_time, is_called);
            self.worker.spins.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !has_work() {
                return false;
            }
            if gil.others_wait(queue) {
                // A waiter does not wake the monitor while the holder spins.
                let monitor = gil.wake_monitor(&mut gil.lock());
                wake(monitor);
            }
        }
        self.since = Instant::now();
        self.worker.is_holder()
    }

    /// Spins for `time`; `true` as soon as `is_called` returns `true`.
    fn spin(&mut self, time: Duration, is_called: impl Fn() -> bool) -> bool {
        const LOOKS: u32 = 16;
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if is_called() {
                    self.spin_time = (self.spin_time * 2).min(MAX_SPIN);
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > time {
                self.spin_time = (self.spin_time / 2).max(MIN_SPIN);
                return false;
            }
        }
    }

    /// Declares that the worker is parked, and passes its turn on.
    fn pass_turn(&self, idle_workers: Option<&IdleWorkers>) {
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

impl Drop for GilTurn {
    /// Passes the turn on when the thread ends.
    fn drop(&mut self) {
        let worker = &self.worker;
        let mut state = worker.gil.lock();
        let is_holder = worker.is_holder();
        let next = is_holder.then(|| worker.gil.retake(&mut state)).flatten();
        drop(state);
        wake(next);
    }
}
