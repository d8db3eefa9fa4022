//! Takes the turn from a worker whose job lasts, for those who wait.
//!
//! A thread of its own, which is awake only while somebody waits, and some rounds after that.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Seat, Turns, wake};

/// Whoever has the turn and begins no job between two rounds loses it to those who wait.
const ROUND: Duration = Duration::from_micros(250);
/// So many rounds with nobody waiting, and the monitor sleeps until it is woken.
const QUIET_ROUNDS: u32 = 8;

pub(super) fn start(turns: &'static Turns) -> io::Result<()> {
    let builder = thread::Builder::new().name("py_turns".to_owned());
    builder.spawn(move || run(turns)).map(|_detached| ())
}

fn run(turns: &Turns) {
    let mut quiet_rounds = 0;
    let mut seen = None;
    loop {
        let mut state = turns.lock();
        let now = state.holder.as_ref().map(mark);
        let woken = if state.waiters.is_empty() {
            quiet_rounds += 1;
            None
        } else {
            quiet_rounds = 0;
            let is_stuck = now.is_some() && now == seen;
            is_stuck.then(|| turns.pass_on(&mut state)).flatten()
        };
        seen = now;
        let sleeps = quiet_rounds > QUIET_ROUNDS;
        if sleeps {
            state.monitor = Some(thread::current());
        }
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

/// Who it is, and at which of its jobs. An address that is used again has begun other jobs.
fn mark(seat: &Arc<Seat>) -> (usize, u64) {
    let begun = seat.begun.load(std::sync::atomic::Ordering::Relaxed);
    (Arc::as_ptr(seat).addr(), begun)
}
