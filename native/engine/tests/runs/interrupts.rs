//! Interrupts of code that computes, waits or sleeps.

use super::*;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

#[test]
fn code_that_computes_is_interrupted() {
    in_lease(|lease| {
        lease.interrupt_after(SOON);
        assert_eq!(
            lease.eval("[None for _ in iter(int, 1)]"),
            Err("BaseException: ".to_owned())
        );
        assert_eq!(lease.repr("1 + 1"), "2");
    });
}

#[test]
fn a_wait_for_erlang_is_interrupted() {
    register("never", |_, _| {
        loop {
            std::thread::park();
        }
    });
    in_lease(|lease| {
        lease.exec("import erlang");
        let before = support::ended_calls();
        lease.interrupt_after(SOON);
        assert_eq!(
            lease.eval("erlang.call('never')"),
            Err("BaseException: ".to_owned())
        );
        assert!(support::ended_calls() > before);
    });
}

#[test]
fn a_loop_that_sleeps_is_interrupted() {
    in_lease(|lease| {
        lease.exec("import asyncio");
        lease.interrupt_after(SOON);
        let start = Instant::now();
        assert!(lease.eval("asyncio.sleep(600)").is_err());
        assert!(start.elapsed() < Duration::from_secs(60));
    });
}

#[test]
fn an_interrupt_waits_for_the_end_of_a_mask() {
    in_lease(|lease| {
        let mask = InterruptMask::new(lease.py);
        lease.interrupt_after(Duration::ZERO);
        while !lease.host.must_stop.load(Ordering::SeqCst) {
            assert_eq!(lease.repr("sum(range(1000))"), "499500");
        }
        for _ in 0..1000 {
            assert_eq!(lease.repr("sum(range(1000))"), "499500");
        }
        drop(mask);
        let raised = lease.eval("[None for _ in iter(int, 1)]");
        assert_eq!(raised, Err("BaseException: ".to_owned()));
    });
}

#[test]
fn what_was_raised_too_late_is_withdrawn() {
    in_lease(|lease| {
        for _ in 0..100 {
            assert!(lease.thread.request(None));
            py_engine::interrupt::notify_interrupter();
            lease
                .py
                .detach(|| std::thread::sleep(Duration::from_micros(200)));
            lease.thread.end(lease.py.into());
            lease.thread.begin();
            assert_eq!(lease.repr("sum(range(10))"), "45");
        }
    });
}

/// Regression: a loop looked for its causes to wake up, ran the jobs of calls, and undid all wake-ups then, also
/// those that had come in the meantime.
#[test]
fn a_wake_up_amid_a_job_is_not_lost() {
    in_lease(|lease| {
        let (thread, host) = (Arc::clone(&lease.thread), Arc::clone(&lease.host));
        let looks = move || host.looks.load(Ordering::SeqCst);
        let looks_at_wake = Arc::new(AtomicUsize::new(usize::MAX));
        let (wake_looks, wake_at) = (looks.clone(), Arc::clone(&looks_at_wake));
        register("wake_loop", move |_, _| {
            wake_at.store(wake_looks(), Ordering::SeqCst);
            thread.loop_waker().unwrap().wake();
            Outcome::Value(bytes_of("None"))
        });
        register("runs_a_job", move |_, callback| {
            eval_within(callback, "erlang.call('wake_loop')").unwrap();
            let end = Instant::now() + Duration::from_secs(10);
            while looks() <= looks_at_wake.load(Ordering::SeqCst) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            let is_seen = looks() > looks_at_wake.load(Ordering::SeqCst);
            Outcome::Value(bytes_of(if is_seen { "'seen'" } else { "'lost'" }))
        });
        lease.exec("import erlang\nasync def call():\n    return await erlang.acall('runs_a_job')");
        let value = lease.eval("call()").unwrap();
        assert_eq!(bytes_of("'seen'"), value);
    });
}

/// Regression: the exception was raised in the first callback of the loop, which was that of another task.
#[test]
fn a_request_before_the_loop_runs_hits_no_other_task() {
    in_lease(|lease| {
        lease.exec(
            "import asyncio
async def other():
    while True:
        await asyncio.sleep(0)
task = asyncio.get_event_loop().create_task(other())",
        );
        lease.host.must_stop.store(true, Ordering::SeqCst);
        assert!(lease.thread.request(None));
        assert!(lease.eval("asyncio.sleep(600)").is_err());
        lease.host.must_stop.store(false, Ordering::SeqCst);
        lease.thread.end(lease.py.into());
        assert_eq!(lease.repr("task.done()"), "False");
    });
}

#[test]
fn a_request_for_a_loop_that_does_not_run_any_more_is_refused() {
    in_lease(|lease| {
        lease.exec("import asyncio");
        lease.eval("asyncio.sleep(0)").unwrap();
        let waker = py_engine::asyncio::loop_waker(lease.py).unwrap();
        assert!(!lease.thread.request(Some(&waker)));
        assert_eq!(lease.repr("sum(range(1000))"), "499500");
    });
}
