//! Ends: of code that must stop, which is interrupted, and whose child is killed after a while; and of a
//! child that has gone. Called by the thread of the children, which sends.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use py_codec::frame::FrameWriter;
use py_codec::protocol::to_child;
use py_engine::lock::lock;

use super::memory_use::above;
use super::notice::{Note, notify};
use super::pidfd;
use super::state::{Phase, State, Stop};
use super::worker::ProcessWorker;
use crate::atoms;
use crate::error::{Error, Exited};
use crate::job::{Job, ReplyBuffer};
use crate::stacks::send_profile;
use crate::vm::{VM, wake_process_io};

/// How long the exit status of a child may take, and a child that was told to end.
const END_GRACE: Duration = Duration::from_secs(1);

/// The time between two looks at the memory of a child, and how much longer it is than a look takes, at the least.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const LOOK_FACTOR: u32 = 50;

/// How often the thread looks within the grace at code that must stop: it sees by that when it is kept from
/// running.
const LOOKS: u32 = 20;

/// Kills a child that has more memory than its limit, and its own children. Returns when to look again.
pub(super) fn check_memory(worker: &ProcessWorker, now: Instant) -> Option<Instant> {
    let limit = worker.limits.memory;
    let mut next_look = lock(&worker.next_look);
    if limit == 0 || *next_look > now {
        return (limit > 0).then_some(*next_look);
    }
    let pid = {
        let state = worker.state();
        // A child that is not known yet is looked at later.
        state.pid.filter(|_| !state.is_killed)
    };
    let begun = Instant::now();
    if let Some(below) = pid.and_then(|pid| above(pid, limit)) {
        below.iter().for_each(pidfd::kill);
        worker.kill(&mut worker.state(), Some(Exited::MemoryLimit));
        return None;
    }
    let pause = LOOK_INTERVAL.max(begun.elapsed() * LOOK_FACTOR);
    // All children are looked at in the same instants: each of them is a wake-up of the thread.
    let ticks = (now + pause - worker.io.since).as_millis() / LOOK_INTERVAL.as_millis();
    *next_look = worker.io.since + LOOK_INTERVAL * u32::try_from(ticks).unwrap_or(u32::MAX);
    Some(*next_look)
}

/// Interrupts what must stop, and kills what has not stopped in time. Returns when to look again. `late`: by how
/// much the look comes later than it should; the child had no processor either, perhaps.
pub(super) fn check(
    worker: &Arc<ProcessWorker>,
    now: Instant,
    late: Duration,
    replies: &mut ReplyBuffer,
) -> Option<Instant> {
    let limits = worker.limits;
    let group = worker.group.upgrade();
    let is_closed = group.is_none_or(|group| group.is_closed());
    let mut state = worker.state();
    let mut again = None;
    let mut later = |at: Instant| again = [again, Some(at)].into_iter().flatten().min();
    if let Some(since) = state.dying_since {
        let end = since + END_GRACE;
        if end > now {
            later(end);
        } else if state.phase == Phase::Dying || state.data.is_none() {
            drop(state);
            finish_dead(worker, replies);
            return None;
        } else if state.has_ended {
            drop(state);
            lost(worker, None, replies);
            return None;
        } else {
            worker.kill(&mut state, None);
        }
    }
    let has_ended = is_closed || state.lease.as_ref().is_some_and(|lease| lease.is_ended());
    let grace = if state.is_importing {
        limits.import_grace
    } else {
        limits.grace
    };
    let (mut stopping, mut must_die) = (Vec::new(), false);
    for (number, sent) in &mut state.jobs {
        if has_ended {
            sent.job.ticket.interrupt();
        }
        if !sent.job.must_stop() {
            continue;
        }
        if let Some(stop) = &mut sent.stop {
            stop.postpone(late);
        }
        let stop = sent.stop.get_or_insert_with(|| {
            stopping.push(*number);
            Stop {
                since: now,
                restarted: now,
            }
        });
        // A child that says that an import has ended restarts the time, but not for ever.
        let end = (stop.restarted + grace).min(stop.since + limits.import_grace + limits.grace);
        if end <= now {
            must_die = true;
        } else {
            later(end.min(now + limits.grace / LOOKS));
        }
    }
    for number in stopping {
        interrupt(worker, &state, number);
    }
    if let Some(since) = state.cleaning_since.filter(|_| state.cleaning > 0) {
        match state.cleaning_stops_at {
            None if since + limits.grace <= now => {
                interrupt(worker, &state, 0);
                state.cleaning_stops_at = Some(now + limits.grace);
                later(now + limits.grace / LOOKS);
            }
            None => later(since + limits.grace),
            Some(end) if end + late <= now => must_die = true,
            Some(end) => {
                state.cleaning_stops_at = Some(end + late);
                later((end + late).min(now + limits.grace / LOOKS));
            }
        }
    }
    if must_die {
        // Signal 9 is what the others in the child are told.
        worker.kill(&mut state, None);
    }
    let masked = if state.is_importing && !must_die {
        stopping_jobs(&state)
    } else {
        Vec::new()
    };
    drop(state);
    // The code goes on until its import has ended; its callers do not wait for that.
    masked.iter().for_each(|job| replies.interrupt(job));
    again
}

/// Returns the jobs of a child that must stop.
fn stopping_jobs(state: &State) -> Vec<Arc<Job>> {
    let jobs = state.jobs.values().map(|sent| &sent.job);
    jobs.filter(|job| job.must_stop()).cloned().collect()
}

fn interrupt(worker: &ProcessWorker, state: &State, job: u64) {
    let mut frame = FrameWriter::new(to_child::INTERRUPT);
    frame.word(job);
    worker.send_control(state, frame.finish());
}

/// Tells a child to end, which has nothing to do; it is killed if it has not ended after a second.
pub(super) fn retire(worker: &ProcessWorker) {
    let mut state = worker.state();
    state.phase = Phase::Retired;
    state.dying_since = Some(Instant::now());
    worker.send_data(&state, FrameWriter::new(to_child::EXIT).finish());
    wake_process_io();
}

/// Handles the end of the process of a child. Its sockets have closed, unless processes have them that it has
/// forked: then they count as closed after a while. Its port says nothing then, either.
pub(super) fn process_ended(worker: &ProcessWorker) {
    let mut state = worker.state();
    if let Some(process) = &state.process {
        worker.io.poller.remove(process.as_raw_fd());
    }
    state.has_ended = true;
    state.dying_since.get_or_insert_with(Instant::now);
    wake_process_io();
}

/// Handles the loss of a child, or the cause for which it is killed. Its jobs are replied to when its exit
/// status has come.
pub(super) fn lost(worker: &Arc<ProcessWorker>, why: Option<Exited>, replies: &mut ReplyBuffer) {
    let mut state = worker.state();
    worker.kill(&mut state, why);
    let sockets = [state.data.clone(), state.control.clone()];
    for socket in sockets.into_iter().flatten() {
        socket.close(&worker.io.poller);
    }
    if matches!(state.phase, Phase::Dying | Phase::Gone) {
        return;
    }
    let was_serving = matches!(state.phase, Phase::Serving | Phase::Ending);
    state.phase = Phase::Dying;
    state.dying_since = Some(Instant::now());
    let is_known = state.exited.is_some() || state.killed.is_some();
    drop(state);
    if let Some(group) = worker.group.upgrade() {
        group.remove(worker);
        if was_serving {
            group.leave();
        }
    }
    if is_known {
        finish_dead(worker, replies);
    } else {
        wake_process_io();
    }
}

/// Ends what a child that has gone had: replies to its jobs, and ends its lease and its calls. Idempotent.
pub(super) fn finish_dead(worker: &Arc<ProcessWorker>, replies: &mut ReplyBuffer) {
    let mut state = worker.state();
    if state.phase == Phase::Gone {
        return;
    }
    state.phase = Phase::Gone;
    // A handle of an object of the child may keep the worker.
    let inbox = std::mem::take(&mut *lock(&worker.inbox));
    drop(inbox);
    let group = worker.group.upgrade();
    let is_closed = group.is_none_or(|group| group.is_closed());
    let exited = state.killed.or(state.exited).unwrap_or(Exited::Unknown);
    let jobs = std::mem::take(&mut state.jobs);
    let mut calls = std::mem::take(&mut state.calls);
    let watches = std::mem::take(&mut state.watches);
    let profiles = std::mem::take(&mut state.profiles);
    // The descriptors close when the last use of each has ended.
    (state.data, state.control, state.process) = (None, None, None);
    let lease = state.lease.take();
    drop(state);
    for call in calls.values_mut() {
        while let Some(job) = call.queue.pop() {
            replies.refuse(&job, Error::ContextNotBound);
        }
    }
    if let Some(server) = VM.callbacks.pid() {
        let ids = calls
            .values()
            .map(|call| call.id)
            .chain(watches.iter().copied());
        for id in ids {
            replies.notify(&server, (atoms::py_callback(), id, atoms::ended()));
        }
    }
    for (number, receiver) in profiles {
        send_profile(receiver, number, None);
    }
    // The lease first, so that a caller that has its reply finds no context, and a free worker.
    if let Some(lease) = lease {
        for _ in jobs.values().filter(|sent| sent.call == 0) {
            lease.finish_job();
        }
        lease.end();
        lease.leave(replies, || Error::ContextNotBound);
    }
    for sent in jobs.into_values() {
        // The ticket says that the caller of an interrupted job gets `interrupted`.
        let error = if is_closed || sent.job.must_stop() {
            Error::Interrupted
        } else {
            Error::WorkerExited(exited)
        };
        replies.refuse(&sent.job, error);
    }
    notify(worker, replies, Note::Exited(exited));
    worker.io.forget(worker.id);
}
