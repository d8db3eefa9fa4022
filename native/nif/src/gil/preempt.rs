//! The GIL monitor: takes the turn from a worker whose job lasts, for the waiters.
//!
//! Runs on the thread `py_gil`, which is awake only while there are waiters, and some rounds after
//! that. The monitor never attaches; it blocks only to sleep, without the lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use super::{GilScheduler, RunQueue, State, WorkerHandle, wake};

/// The time between two rounds. A holder that begins no job in that time loses the turn to a
/// waiter.
const ROUND: Duration = Duration::from_micros(250);
/// The number of rounds without a waiter after which the monitor sleeps until it is woken.
const QUIET_ROUNDS: u32 = 8;

/// Starts the monitor. Called once for a scheduler, before any worker.
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
            // A spurious wake-up costs some quiet rounds.
            thread::park();
            (quiet_rounds, seen) = (0, None);
        } else {
            thread::sleep(ROUND);
        }
    }
}

/// Returns `true` if work might wait in vain: there are waiters, or the holder's queue has work.
fn is_needed(state: &State) -> bool {
    let has_work = |queue: &Arc<dyn RunQueue>| queue.has_work();
    !state.waiters.is_empty() || state.queue.as_ref().is_some_and(has_work)
}

/// Declares that the monitor sleeps; `false` if there is something to watch after all. The flag is
/// set first and the waiters are looked at then; a caller adds work first and reads the flag then.
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

/// Returns the holder's address and the number of jobs it has begun, which are equal in two rounds
/// if the same job goes on. A new worker at a reused address differs in the number, or loses one
/// turn.
fn mark(worker: &Arc<WorkerHandle>) -> (usize, u64) {
    (
        Arc::as_ptr(worker).addr(),
        worker.begun.load(Ordering::Relaxed),
    )
}
