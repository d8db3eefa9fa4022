//! Tests of every interleaving of the threads that use and end a lease, by loom. Run by `cargo
//! test` without a BEAM.

use super::*;
use loom::sync::Arc;
use loom::thread;

/// A model of a lease: its usage, the number of workers that count as free, and of jobs in its
/// queue.
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

    /// Does what `Lease::submit` does; `false` if the job is refused.
    fn submit(&self) -> bool {
        let is_accepted = self.usage.begin();
        if is_accepted {
            self.queue.fetch_add(1, Ordering::SeqCst);
        } else {
            self.usage.finish();
        }
        is_accepted
    }

    /// Takes a job, as the queue does: each job is taken once.
    fn pop(&self) -> bool {
        let take = |n: usize| n.checked_sub(1);
        self.queue
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
    }

    /// Does what `Lease::withdraw` does.
    fn withdraw(&self) {
        if self.pop() {
            self.usage.finish();
        }
    }

    fn end(&self) -> End {
        self.usage.end(|| self.give_back())
    }

    /// Does what `Lease::leave` does, called by the worker or by the watchdog.
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
fn a_worker_counts_as_free_once_if_owner_and_worker_end_the_lease() {
    loom::model(|| {
        let model = Model::new();
        let owner = beside(&model, |model| _ = model.end());
        let submitter = beside(&model, |model| _ = model.submit());
        // The worker ends the lease too, and leaves it.
        model.end();
        model.leave();
        owner.join().unwrap();
        submitter.join().unwrap();
        assert_eq!(model.free(), 1);
        assert!(model.usage.is_ended());
    });
}

/// Does what the watchdog does in the place of an abandoned worker, which touches the lease no
/// more.
fn abandon(model: &Model) {
    model.usage.finish();
    model.end();
    model.leave();
}

#[test]
fn an_abandoned_worker_counts_as_free_once_if_the_owner_ends_the_lease() {
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
fn a_lease_that_no_worker_has_taken_is_freed_once() {
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
        // The steps of `Lease::end_by_pool`.
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
fn a_quiet_end_refuses_later_jobs_or_does_not_happen() {
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
