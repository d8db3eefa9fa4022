//! No call is lost, whoever calls and whoever rests; and who is stuck holds up nobody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::{Crew, Desk, Seat, Turn, Turns, monitor};

#[derive(Default)]
struct Table {
    jobs: AtomicUsize,
    done: AtomicUsize,
    closed: AtomicBool,
    crew: Crew,
}

impl Desk for Table {
    fn has_work(&self) -> bool {
        self.jobs.load(Ordering::SeqCst) > 0 || self.closed.load(Ordering::SeqCst)
    }

    fn crew(&self) -> &Crew {
        &self.crew
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

fn turns() -> &'static Turns {
    let turns = Box::leak(Box::new(Turns::new()));
    monitor::start(turns).unwrap();
    turns
}

/// Serves a table, with the crew of it or alone, until it is closed.
fn serve(turns: &'static Turns, table: &Arc<Table>, is_alone: bool) -> Arc<Seat> {
    join(turns, table, is_alone).0
}

fn join(
    turns: &'static Turns,
    table: &Arc<Table>,
    is_alone: bool,
) -> (Arc<Seat>, thread::JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let table = Arc::clone(table);
    let handle = thread::spawn(move || {
        let mut turn = Turn::among(turns);
        tell.send(Arc::clone(turn.seat())).unwrap();
        let desk = (!is_alone).then_some(&table);
        loop {
            if turn.goes_on() && table.take() {
                turn.begin();
                if table.jobs.load(Ordering::SeqCst) > 0 && !is_alone {
                    turns.call_one(&table);
                }
                table.done.fetch_add(1, Ordering::SeqCst);
            } else if table.closed.load(Ordering::SeqCst) {
                // The next, who has to leave as well.
                turns.call_one(&table);
                return;
            } else {
                turn.rest(desk, || table.has_work());
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

fn close(turns: &'static Turns, table: &Arc<Table>, seat: &Arc<Seat>) {
    table.closed.store(true, Ordering::SeqCst);
    turns.call(seat);
    turns.call_one(table);
}

/// One caller for each worker, which calls again when it has had its answer, and now and then
/// after a pause in which everybody falls asleep; and callers for a crew.
#[test]
fn no_call_is_lost() {
    const CALLS: usize = 5_000;
    let turns = turns();
    let crew = Arc::new(Table::default());
    let members: Vec<_> = (0..3).map(|_| serve(turns, &crew, false)).collect();
    let callers: Vec<_> = (0..6)
        .map(|caller| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                let own = Arc::new(Table::default());
                let seat = serve(turns, &own, true);
                for call in 1..=CALLS {
                    own.jobs.fetch_add(1, Ordering::SeqCst);
                    turns.call(&seat);
                    crew.jobs.fetch_add(1, Ordering::SeqCst);
                    turns.call_one(&crew);
                    if (call + caller * 37) % 512 == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    while own.done.load(Ordering::SeqCst) < call {
                        thread::yield_now();
                    }
                }
                close(turns, &own, &seat);
            })
        })
        .collect();
    callers
        .into_iter()
        .for_each(|caller| caller.join().unwrap());
    wait_for(&crew, 6 * CALLS);
    members.iter().for_each(|seat| close(turns, &crew, seat));
}

#[test]
fn who_is_stuck_loses_the_turn() {
    let turns = turns();
    let table = Arc::new(Table::default());
    let (release, released) = mpsc::channel::<()>();
    let stuck = thread::spawn(move || {
        let mut turn = Turn::among(turns);
        turn.rest::<Table>(None, || true);
        turn.begin();
        released.recv().unwrap();
        assert!(!turn.seat().is_holder());
        // It gets in line again like everybody.
        turn.rest::<Table>(None, || true);
        assert!(turn.goes_on());
    });
    thread::sleep(Duration::from_millis(20));
    let _members: Vec<_> = (0..2).map(|_| serve(turns, &table, false)).collect();
    let alone = Arc::new(Table::default());
    let seat = serve(turns, &alone, true);
    for round in 1..=100 {
        for table in [&table, &alone] {
            table.jobs.fetch_add(1, Ordering::SeqCst);
        }
        turns.call_one(&table);
        turns.call(&seat);
        wait_for(&table, round);
        wait_for(&alone, round);
    }
    release.send(()).unwrap();
    stuck.join().unwrap();
}

#[test]
fn all_leave_a_closed_desk() {
    let turns = turns();
    for round in 0..200 {
        let table = Arc::new(Table::default());
        let members: Vec<_> = (0..3).map(|_| join(turns, &table, false)).collect();
        if round % 2 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
        table.closed.store(true, Ordering::SeqCst);
        turns.call_one(&table);
        for _ in 0..5_000 {
            if members.iter().all(|(_, handle)| handle.is_finished()) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(members.iter().all(|(_, handle)| handle.is_finished()));
    }
}
