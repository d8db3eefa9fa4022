//! Looks at code that runs, and profiles of it.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use py_engine::inspect::{self, Finish, Frame, Sample, View};
use py_engine::interrupt::Thread;

const PATIENCE: Duration = Duration::from_secs(60);

const SPIN: &str = "\
def inner():
    while True: pass
def outer():
    inner()
";

/// Runs `test` beside code that calls `outer`, which is interrupted at the end.
fn beside_code(source: &'static str, test: impl FnOnce(&Arc<Thread>) + Send + 'static) {
    in_lease(move |lease| {
        lease.exec(source);
        let thread = Arc::clone(&lease.thread);
        let host = Arc::clone(&lease.host);
        let tester = thread::spawn(move || {
            let tested = catch_unwind(AssertUnwindSafe(|| test(&thread)));
            host.must_stop.store(true, Ordering::SeqCst);
            while !thread.request(thread.loop_waker().as_ref()) {}
            py_engine::interrupt::notify_interrupter();
            tested.unwrap();
        });
        assert_eq!(lease.eval("outer()"), Err("BaseException: ".to_owned()));
        tester.join().unwrap();
    });
}

/// Returns the stack of a thread.
fn stack(thread: &Arc<Thread>) -> Vec<Frame> {
    let (sender, receiver) = channel();
    let thread = Arc::clone(thread);
    let look = move |view: &View<'_>| {
        let stack = view.stack(&thread);
        Box::new(move || sender.send(stack).unwrap()) as Finish
    };
    inspect::look(Box::new(look)).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// Waits until the code of a thread is in `function`, and returns its stack.
fn stack_in(thread: &Arc<Thread>, function: &str) -> Vec<Frame> {
    loop {
        let stack = stack(thread);
        if stack
            .first()
            .is_some_and(|frame| frame.function == function)
        {
            return stack;
        }
    }
}

#[test]
fn a_look_finds_the_stack() {
    beside_code(SPIN, |thread| {
        let found = stack_in(thread, "inner");
        let places: Vec<_> = found
            .iter()
            .map(|frame| (&*frame.function, frame.line))
            .collect();
        assert_eq!(places, [("inner", 2), ("outer", 4), ("<module>", 1)]);
        assert_eq!(found[0].file, "<erlang>");
    });
}

#[test]
fn a_thread_without_code_has_no_stack() {
    in_lease(|lease| {
        let thread = Arc::clone(&lease.thread);
        lease.py.detach(move || assert_eq!(stack(&thread), []));
    });
}

#[test]
fn a_look_that_panics_ends_no_other() {
    beside_code(SPIN, |thread| {
        inspect::look(Box::new(|_| panic!("a look"))).unwrap();
        stack_in(thread, "inner");
        let end = || assert_eq!(1, 2, "the end of a look");
        inspect::look(Box::new(move |_| Box::new(end) as Finish)).unwrap();
        stack_in(thread, "inner");
    });
}

/// Returns the profile of a thread.
fn profile(time: Duration, target: impl Fn() -> Sample + Send + 'static) -> String {
    let (sender, receiver) = channel();
    let finish = move |folded| sender.send(folded).unwrap();
    inspect::profile(time, target, finish).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_profile_counts_stacks() {
    beside_code(SPIN, |thread| {
        stack_in(thread, "inner");
        let sampled = Arc::clone(thread);
        let folded = profile(Duration::from_millis(300), move || {
            Sample::Thread(Arc::clone(&sampled))
        });
        let start = "<module> (<erlang>:1);outer (<erlang>:4);inner (<erlang>:2) ";
        let count = folded
            .strip_prefix(start)
            .unwrap()
            .trim_end()
            .parse::<u32>();
        assert!((1..=31).contains(&count.unwrap()), "{folded}");
    });
}

#[test]
fn a_profile_ends_with_its_target() {
    in_lease(|lease| {
        lease.py.detach(|| {
            let start = Instant::now();
            assert_eq!(profile(PATIENCE * 10, || Sample::Ended), "");
            assert_eq!(profile(Duration::from_millis(20), || Sample::Idle), "");
            assert!(start.elapsed() < PATIENCE);
        });
    });
}

/// The code releases the GIL a thousand times a second, for a moment: it is found where it computes.
#[test]
fn code_that_often_waits_is_found_where_it_computes() {
    const SOURCE: &str = "\
import asyncio
async def work():
    while True:
        for _ in range(30000): pass
        await asyncio.sleep(0)
def outer():
    asyncio.run(work())
";
    beside_code(SOURCE, |thread| {
        while !stack(thread)
            .iter()
            .any(|frame| frame.function == "BaseEventLoop._run_once")
        {}
        let sampled = Arc::clone(thread);
        let folded = profile(Duration::from_secs(1), move || {
            Sample::Thread(Arc::clone(&sampled))
        });
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
        let (work, rest): (Vec<_>, Vec<_>) =
            folded.lines().partition(|line| line.contains("work ("));
        let sum = |lines: Vec<&str>| lines.into_iter().map(count).sum::<u32>();
        let (work, rest) = (sum(work), sum(rest));
        assert!(work > rest, "{folded}");
    });
}
