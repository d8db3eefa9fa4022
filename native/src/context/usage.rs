//! How much a lease is in use, and whether its worker counts as free: every race between jobs that
//! come and go, the end of the lease, the worker that leaves it, and the watchdog that takes that
//! worker's part.
//!
//! ```text
//! in use, n jobs --end, n = 0--> ended, free
//!       \--------end, n > 0----> ended, n jobs --the worker has left, or is abandoned--> free
//! ```
//!
//! Called on scheduler threads, workers and the watchdog. The lock is held for a few instructions.

#[cfg(test)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(test))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

/// Of `active`: the lease has ended. In one word with the count, so that no job comes between a
/// look at the count and the end.
const ENDED: usize = 1 << (usize::BITS - 1);

pub(super) struct Usage {
    /// Jobs accepted and not yet finished by the worker; and `ENDED`.
    active: AtomicUsize,
    /// Jobs that have come so far, refused ones included.
    submitted: AtomicUsize,
    /// The worker counts as free again.
    is_free: Mutex<bool>,
}

/// What the end of a lease left behind.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum End {
    /// No job was left: the worker counts as free from now on.
    Idle,
    /// The worker still has a job to end: a message will say when it is free.
    Busy,
    /// The lease had ended before.
    Already,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            active: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            is_free: Mutex::new(false),
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.active.load(Ordering::SeqCst) & ENDED != 0
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.load(Ordering::SeqCst) & !ENDED == 0
    }

    pub(super) fn submitted(&self) -> usize {
        self.submitted.load(Ordering::SeqCst)
    }

    /// Counts a job that comes; `false` if the lease has ended. Either way `finish` ends it, and the
    /// worker does not leave before.
    pub(super) fn begin(&self) -> bool {
        // First: a job that is found finished is found in this count.
        self.submitted.fetch_add(1, Ordering::SeqCst);
        self.active.fetch_add(1, Ordering::SeqCst) & ENDED == 0
    }

    /// Counts a part of a job that goes on by itself.
    pub(super) fn begin_task(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn finish(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// Ends the lease; `give_back` counts its worker as free, if no job is left.
    pub(super) fn end(&self, give_back: impl FnOnce()) -> End {
        let mut is_free = self.is_free();
        let active = self.active.fetch_or(ENDED, Ordering::SeqCst);
        if active & ENDED != 0 {
            End::Already
        } else if active == 0 {
            *is_free = true;
            give_back();
            End::Idle
        } else {
            End::Busy
        }
    }

    /// Ends the lease if no job is under way and no more than `submitted` have come. A `begin` before
    /// the exchange makes it fail; one that comes later finds `ENDED`.
    pub(super) fn end_if_quiet(&self, submitted: usize, give_back: impl FnOnce()) -> bool {
        let mut is_free = self.is_free();
        let is_quiet = self.submitted() == submitted
            && self
                .active
                .compare_exchange(0, ENDED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if is_quiet {
            *is_free = true;
            give_back();
        }
        is_quiet
    }

    /// The worker has left the lease, or will never come to it: `give_back` counts it as free, unless
    /// that was done at the end.
    pub(super) fn free(&self, give_back: impl FnOnce()) {
        if !std::mem::replace(&mut *self.is_free(), true) {
            give_back();
        }
    }

    fn is_free(&self) -> MutexGuard<'_, bool> {
        // A flag is whole whatever panicked.
        self.is_free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// A lease, the workers that count as free, and the jobs in its queue.
    struct Model {
        usage: Usage,
        free: AtomicUsize,
        queue: AtomicUsize,
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                usage: Usage::new(),
                free: AtomicUsize::new(0),
                queue: AtomicUsize::new(0),
            })
        }

        fn give_back(&self) {
            self.free.fetch_add(1, Ordering::SeqCst);
        }

        fn free(&self) -> usize {
            self.free.load(Ordering::SeqCst)
        }

        /// As `Lease::submit`; `false` if the job is refused.
        fn submit(&self) -> bool {
            let is_accepted = self.usage.begin();
            if is_accepted {
                self.queue.fetch_add(1, Ordering::SeqCst);
            } else {
                self.usage.finish();
            }
            is_accepted
        }

        /// As the queue does: one of those who come for a job gets it.
        fn pop(&self) -> bool {
            let take = |n: usize| n.checked_sub(1);
            self.queue
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_ok()
        }

        /// As `Lease::withdraw`.
        fn withdraw(&self) {
            if self.pop() {
                self.usage.finish();
            }
        }

        fn end(&self) -> End {
            self.usage.end(|| self.give_back())
        }

        /// As `Lease::leave`, by the worker or by the watchdog.
        fn leave(&self) {
            while !self.usage.is_idle() {
                if self.pop() {
                    self.usage.finish();
                } else {
                    thread::yield_now();
                }
            }
            self.usage.free(|| self.give_back());
        }
    }

    fn beside(model: &Arc<Model>, act: impl FnOnce(&Model) + 'static) -> thread::JoinHandle<()> {
        let model = Arc::clone(model);
        thread::spawn(move || act(&model))
    }

    #[test]
    fn a_worker_counts_as_free_once_whoever_ends_the_lease() {
        loom::model(|| {
            let model = Model::new();
            let owner = beside(&model, |model| _ = model.end());
            let submitter = beside(&model, |model| _ = model.submit());
            // The worker, when its own look shows that the lease has ended.
            model.end();
            model.leave();
            owner.join().unwrap();
            submitter.join().unwrap();
            assert_eq!(model.free(), 1);
            assert!(model.usage.is_ended());
        });
    }

    /// The watchdog finishes the job in the place of the thread, which does nothing more.
    fn abandon(model: &Model) {
        model.usage.finish();
        model.end();
        model.leave();
    }

    #[test]
    fn an_abandoned_worker_counts_as_free_once_whoever_ends_the_lease() {
        loom::model(|| {
            let model = Model::new();
            assert!(model.usage.begin());
            let owner = beside(&model, |model| {
                if model.end() == End::Idle {
                    assert_eq!(model.free(), 1);
                }
            });
            abandon(&model);
            owner.join().unwrap();
            assert_eq!(model.free(), 1);
            assert!(model.usage.is_idle());
        });
    }

    #[test]
    fn an_abandoned_worker_counts_as_free_once_while_jobs_come_and_go() {
        loom::model(|| {
            let model = Model::new();
            assert!(model.usage.begin());
            let waiter = beside(&model, |model| {
                if model.submit() {
                    model.withdraw();
                }
            });
            abandon(&model);
            waiter.join().unwrap();
            assert_eq!(model.free(), 1);
            assert!(model.usage.is_idle());
        });
    }

    #[test]
    fn a_lease_that_no_worker_came_to_is_freed_once() {
        loom::model(|| {
            let model = Model::new();
            let waiter = beside(&model, |model| {
                if model.submit() {
                    model.withdraw();
                }
            });
            let worker = beside(&model, |model| {
                if model.usage.is_ended() {
                    model.leave();
                }
            });
            // As `Lease::end_by_pool`.
            model.end();
            if model.usage.is_idle() {
                model.usage.free(|| model.give_back());
            }
            waiter.join().unwrap();
            worker.join().unwrap();
            model.leave();
            assert_eq!(model.free(), 1);
        });
    }

    #[test]
    fn a_quiet_end_refuses_what_comes_or_does_not_happen() {
        loom::model(|| {
            let model = Model::new();
            let submitter = beside(&model, |model| {
                if model.submit() {
                    assert!(!model.usage.is_ended());
                    model.withdraw();
                }
            });
            let ended = model.usage.end_if_quiet(0, || model.give_back());
            submitter.join().unwrap();
            assert_eq!(model.free(), usize::from(ended));
            assert!(model.usage.is_idle());
        });
    }
}
