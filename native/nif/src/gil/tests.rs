//! No call is lost, whoever calls and whoever rests; and who is stuck holds up nobody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::{GilScheduler, GilTurn, IdleWorkers, RunQueue, WorkerHandle, preempt};

#[derive(Default)]
struct Table {
    jobs: AtomicUsize,
    done: AtomicUsize,
    closed: AtomicBool,
    idle_workers: IdleWorkers,
}

impl RunQueue for Table {
    fn has_work(&self) -> bool {
        self.jobs.load(Ordering::SeqCst) > 0 || self.closed.load(Ordering::SeqCst)
    }

    fn idle_workers(&self) -> &IdleWorkers {
        &self.idle_workers
    }
}

impl Table {
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

/// Serves a table, with the idle_workers of it or alone, until it is closed.
fn serve(gil: &'static GilScheduler, table: &Arc<Table>, is_alone: bool) -> Arc<WorkerHandle> {
    join(gil, table, is_alone).0
}

fn join(
    gil: &'static GilScheduler,
    table: &Arc<Table>,
    is_alone: bool,
) -> (Arc<WorkerHandle>, thread::JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let table = Arc::clone(table);
    let handle = thread::spawn(move || {
        let mut turn = GilTurn::among(gil);
        tell.send(Arc::clone(turn.worker())).unwrap();
        let queue = (!is_alone).then_some(&table);
        loop {
            if turn.may_continue() && table.take() {
                turn.begin();
                if table.jobs.load(Ordering::SeqCst) > 0 && !is_alone {
                    gil.call_one(&table);
                }
                table.done.fetch_add(1, Ordering::SeqCst);
            } else if table.closed.load(Ordering::SeqCst) {
                // The next, who has to leave as well.
                gil.call_one(&table);
                return;
            } else {
                turn.park(queue, || table.has_work());
            }
        }
    });
    (told.recv().unwrap(), handle)
}

fn wait_for(table: &Table, done: usize) {
    for _ in 0..10_000 {
        if table.done.load(Ordering::SeqCst) == done {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{} of {done}", table.done.load(Ordering::SeqCst));
}

fn close(gil: &'static GilScheduler, table: &Arc<Table>, worker: &Arc<WorkerHandle>) {
    table.closed.store(true, Ordering::SeqCst);
    gil.call(worker);
    gil.call_one(table);
}

/// One caller for each worker, which calls again when it has had its answer, and now and then
/// after a pause in which everybody falls asleep; and callers for a idle_workers.
#[test]
fn no_call_is_lost() {
    const CALLS: usize = 5_000;
    let gil = gil();
    let idle_workers = Arc::new(Table::default());
    let members: Vec<_> = (0..3).map(|_| serve(gil, &idle_workers, false)).collect();
    let callers: Vec<_> = (0..6)
        .map(|caller| {
            let idle_workers = Arc::clone(&idle_workers);
            thread::spawn(move || {
                let own = Arc::new(Table::default());
                let worker = serve(gil, &own, true);
                for call in 1..=CALLS {
                    own.jobs.fetch_add(1, Ordering::SeqCst);
                    gil.call(&worker);
                    idle_workers.jobs.fetch_add(1, Ordering::SeqCst);
                    gil.call_one(&idle_workers);
                    if (call + caller * 37) % 512 == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    while own.done.load(Ordering::SeqCst) < call {
                        thread::yield_now();
                    }
                }
                close(gil, &own, &worker);
            })
        })
        .collect();
    callers
        .into_iter()
        .for_each(|caller| caller.join().unwrap());
    wait_for(&idle_workers, 6 * CALLS);
    members
        .iter()
        .for_each(|worker| close(gil, &idle_workers, worker));
}

#[test]
fn who_is_stuck_loses_the_turn() {
    let gil = gil();
    let table = Arc::new(Table::default());
    let (release, released) = mpsc::channel::<()>();
    let stuck = thread::spawn(move || {
        let mut turn = GilTurn::among(gil);
        turn.park::<Table>(None, || true);
        turn.begin();
        released.recv().unwrap();
        assert!(!turn.worker().is_holder());
        // It gets in line again like everybody.
        turn.park::<Table>(None, || true);
        assert!(turn.may_continue());
    });
    thread::sleep(Duration::from_millis(20));
    let _members: Vec<_> = (0..2).map(|_| serve(gil, &table, false)).collect();
    let alone = Arc::new(Table::default());
    let worker = serve(gil, &alone, true);
    for round in 1..=100 {
        for table in [&table, &alone] {
            table.jobs.fetch_add(1, Ordering::SeqCst);
        }
        gil.call_one(&table);
        gil.call(&worker);
        wait_for(&table, round);
        wait_for(&alone, round);
    }
    release.send(()).unwrap();
    stuck.join().unwrap();
}

#[test]
fn all_leave_a_closed_desk() {
    let gil = gil();
    for round in 0..200 {
        let table = Arc::new(Table::default());
        let members: Vec<_> = (0..3).map(|_| join(gil, &table, false)).collect();
        if round % 2 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
        table.closed.store(true, Ordering::SeqCst);
        gil.call_one(&table);
        for _ in 0..5_000 {
            if members.iter().all(|(_, handle)| handle.is_finished()) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(members.iter().all(|(_, handle)| handle.is_finished()));
    }
}
