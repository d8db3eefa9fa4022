//! Tests of GIL turns on real threads: no call is lost, and a worker that is stuck holds up no
//! other. Run by `cargo test` without a BEAM and without Python.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::{GilScheduler, GilTurn, IdleWorkers, RunQueue, WorkerHandle, preempt};

#[derive(Default)]
struct TestQueue {
    jobs: AtomicUsize,
    done: AtomicUsize,
    closed: AtomicBool,
    idle_workers: IdleWorkers,
}

impl RunQueue for TestQueue {
    fn has_work(&self) -> bool {
        self.jobs.load(Ordering::SeqCst) > 0 || self.closed.load(Ordering::SeqCst)
    }

    fn idle_workers(&self) -> &IdleWorkers {
        &self.idle_workers
    }
}

impl TestQueue {
    fn take(&self) -> bool {
        let take = |jobs: usize| jobs.checked_sub(1);
        let taken = self
            .jobs
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        taken.is_ok()
    }
}

fn gil() -> &'static GilScheduler {
    let gil = Box::leak(Box::new(GilScheduler::new()));
    preempt::start(gil).unwrap();
    gil
}

/// Starts a worker that serves a queue until it is closed: with other workers, or alone, as a lease
/// is served.
fn serve(gil: &'static GilScheduler, queue: &Arc<TestQueue>, is_alone: bool) -> Arc<WorkerHandle> {
    join(gil, queue, is_alone).0
}

fn join(
    gil: &'static GilScheduler,
    queue: &Arc<TestQueue>,
    is_alone: bool,
) -> (Arc<WorkerHandle>, thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let queue = Arc::clone(queue);
    let handle = thread::spawn(move || {
        let mut turn = GilTurn::with_scheduler(gil);
        sender.send(Arc::clone(turn.worker())).unwrap();
        let run_queue = (!is_alone).then_some(&queue);
        loop {
            if turn.may_continue() && queue.take() {
                turn.begin();
                if queue.jobs.load(Ordering::SeqCst) > 0 && !is_alone {
                    gil.call_one(&queue);
                }
                queue.done.fetch_add(1, Ordering::SeqCst);
            } else if queue.closed.load(Ordering::SeqCst) {
                // The next worker has to end as well.
                gil.call_one(&queue);
                return;
            } else {
                turn.park(run_queue, || queue.has_work());
            }
        }
    });
    (receiver.recv().unwrap(), handle)
}

fn wait_for(queue: &TestQueue, done: usize) {
    for _ in 0..10_000 {
        if queue.done.load(Ordering::SeqCst) == done {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{} of {done}", queue.done.load(Ordering::SeqCst));
}

fn close(gil: &'static GilScheduler, queue: &Arc<TestQueue>, worker: &Arc<WorkerHandle>) {
    queue.closed.store(true, Ordering::SeqCst);
    gil.call(worker);
    gil.call_one(queue);
}

/// Six callers, each with a worker of its own that it calls again after every answer, and now and
/// then after a pause in which all threads park; each of them also calls the workers of a shared
/// queue.
#[test]
fn no_call_is_lost() {
    const CALLS: usize = 5_000;
    let gil = gil();
    let shared = Arc::new(TestQueue::default());
    let members: Vec<_> = (0..3).map(|_| serve(gil, &shared, false)).collect();
    let callers: Vec<_> = (0..6)
        .map(|caller| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let lease_queue = Arc::new(TestQueue::default());
                let worker = serve(gil, &lease_queue, true);
                for call in 1..=CALLS {
                    lease_queue.jobs.fetch_add(1, Ordering::SeqCst);
                    gil.call(&worker);
                    shared.jobs.fetch_add(1, Ordering::SeqCst);
                    gil.call_one(&shared);
                    if (call + caller * 37) % 512 == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    while lease_queue.done.load(Ordering::SeqCst) < call {
                        thread::yield_now();
                    }
                }
                close(gil, &lease_queue, &worker);
            })
        })
        .collect();
    callers
        .into_iter()
        .for_each(|caller| caller.join().unwrap());
    wait_for(&shared, 6 * CALLS);
    members
        .iter()
        .for_each(|worker| close(gil, &shared, worker));
}

#[test]
fn a_stuck_worker_loses_the_turn() {
    let gil = gil();
    let queue = Arc::new(TestQueue::default());
    let (release, released) = mpsc::channel::<()>();
    let stuck = thread::spawn(move || {
        let mut turn = GilTurn::with_scheduler(gil);
        turn.park::<TestQueue>(None, || true);
        turn.begin();
        released.recv().unwrap();
        assert!(!turn.worker().is_holder());
        // The worker is queued for the turn as any other.
        turn.park::<TestQueue>(None, || true);
        assert!(turn.may_continue());
    });
    thread::sleep(Duration::from_millis(20));
    let _members: Vec<_> = (0..2).map(|_| serve(gil, &queue, false)).collect();
    let alone = Arc::new(TestQueue::default());
    let worker = serve(gil, &alone, true);
    for round in 1..=100 {
        for queue in [&queue, &alone] {
            queue.jobs.fetch_add(1, Ordering::SeqCst);
        }
        gil.call_one(&queue);
        gil.call(&worker);
        wait_for(&queue, round);
        wait_for(&alone, round);
    }
    release.send(()).unwrap();
    stuck.join().unwrap();
}

#[test]
fn all_workers_leave_a_closed_queue() {
    let gil = gil();
    for round in 0..200 {
        let queue = Arc::new(TestQueue::default());
        let members: Vec<_> = (0..3).map(|_| join(gil, &queue, false)).collect();
        if round % 2 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
        queue.closed.store(true, Ordering::SeqCst);
        gil.call_one(&queue);
        for _ in 0..5_000 {
            if members.iter().all(|(_, handle)| handle.is_finished()) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(members.iter().all(|(_, handle)| handle.is_finished()));
    }
}
