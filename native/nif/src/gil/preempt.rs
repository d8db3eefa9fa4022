//! Takes the turn from a worker whose job lasts, for those who wait.
//!
//! A thread of its own, which is awake only while somebody waits, and some rounds after that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use super::{GilScheduler, RunQueue, State, WorkerHandle, wake};

/// Whoever has the turn and begins no job between two rounds loses it to those who wait.
const ROUND: Duration = Duration::from_micros(250);
/// So many rounds with nobody waiting, and the monitor sleeps until it is woken.
const QUIET_ROUNDS: u32 = 8;

pub(super) fn start(gil: &'static GilScheduler) -> io::Result<()> {
    let builder = thread::Builder::new().name("py_gil".to_owned());
    builder.spawn(move || run(gil)).map(|_detached| ())
}

fn run(gil: &GilScheduler) {
    let mut quiet_rounds = 0;
    let mut seen = None;
    loop {
        let mut state = gil.lock();
        let now = state.holder.as_ref().map(mark);
        let mut woken = None;
        if !is_needed(&state) {
            quiet_rounds += 1;
        } else {
            quiet_rounds = 0;
            if now.is_some() && now == seen {
                woken = gil.retake(&mut state);
            }
        }
        seen = now;
        let sleeps = quiet_rounds > QUIET_ROUNDS && falls_asleep(gil, &mut state);
        drop(state);
        wake(woken);
        if sleeps {
            // Woken for nothing it looks around and sleeps again.
            thread::park();
            (quiet_rounds, seen) = (0, None);
        } else {
            thread::sleep(ROUND);
        }
    }
}

/// Somebody might wait in vain.
fn is_needed(state: &State) -> bool {
    let has_work = |queue: &Arc<dyn RunQueue>| queue.has_work();
    !state.waiters.is_empty() || state.queue.as_ref().is_some_and(has_work)
}

/// `false` if there is something to watch after all. Said first and looked then: whoever comes
/// looks whether somebody watches, after adding work.
fn falls_asleep(gil: &GilScheduler, state: &mut State) -> bool {
    gil.is_unwatched.store(true, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let sleeps = !is_needed(state);
    if sleeps {
        state.monitor = Some(thread::current());
    } else {
        gil.is_unwatched.store(false, Ordering::SeqCst);
    }
    sleeps
}

/// Who it is, and at which of its jobs. An address that is used again has begun other jobs.
fn mark(worker: &Arc<WorkerHandle>) -> (usize, u64) {
    (
        Arc::as_ptr(worker).addr(),
        worker.begun.load(Ordering::Relaxed),
    )
}
