//! Looks into a child, for `py:dump` and `py:profile`: what the VM knows of it, and requests for the stacks of
//! its code, which another thread of the child answers than the one that runs the code.
//!
//! `look`, `ask_stacks` and `profile` are called on dirty schedulers; `stacks` and `profiled`, for what a child
//! says, by the thread of the children.

use rustler::LocalPid;
use std::sync::Arc;
use std::time::{Duration, Instant};

use py_codec::frame::{Fields, FrameWriter};
use py_codec::protocol::to_child;
use py_engine::inspect::Frame;

use super::frames::MAX_OPEN;
use super::io;
use super::reply::MAX_TEXT;
use super::state::{Phase, Sent, State};
use super::worker::ProcessWorker;
use crate::atoms;
use crate::stacks::{Stacks, send_profile, send_stacks};
use crate::watch::{Running, WorkerState};

/// How long a request for stacks is kept. The process that has made it waits for 100 ms.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most requests of a child that wait.
const MAX_REQUESTS: usize = 1024;

/// Most frames of a stack, and bytes of a profile, that a child says.
const MAX_FRAMES: u64 = 1024;
const MAX_PROFILE: usize = 1 << 26;

/// The process that waits for the stacks of a child.
#[derive(Clone, Copy)]
pub(crate) struct Receiver {
    pub(crate) pid: LocalPid,
    /// The place of the worker in the dump.
    pub(crate) index: usize,
}

/// Returns the children that serve a lease, or run a job without one, and what each does.
pub(crate) fn look() -> Vec<(Arc<ProcessWorker>, WorkerState)> {
    let workers = io::workers().into_iter();
    let looked = workers.filter_map(|worker| {
        let state = worker.look()?;
        Some((worker, state))
    });
    looked.collect()
}

impl ProcessWorker {
    fn look(&self) -> Option<WorkerState> {
        let pool = self.group.upgrade()?.pool()?;
        let state = self.state();
        let what = match state.phase {
            Phase::Ending => atoms::cleaning(),
            Phase::Serving if state.cleaning > 0 => atoms::cleaning(),
            Phase::Serving if state.main.is_some() => atoms::running(),
            Phase::Serving if !state.jobs.is_empty() => atoms::event_loop(),
            Phase::Serving => atoms::idle(),
            Phase::Starting | Phase::Ready | Phase::Retired | Phase::Dying | Phase::Gone => {
                return None;
            }
        };
        let is_task =
            |(number, sent): &(&u64, &Sent)| sent.call == 0 && state.main != Some(**number);
        let running = |(number, sent): (&u64, &Sent)| Running {
            key: *number,
            job: Arc::clone(&sent.job),
            time: sent.since.elapsed(),
        };
        let (tasks, calls): (Vec<_>, Vec<_>) = state.jobs.iter().partition(is_task);
        let mut calls: Vec<_> = calls.into_iter().map(running).collect();
        // A job in the middle of another has come later.
        calls.sort_by_key(|running| running.key);
        Some(WorkerState {
            pool,
            worker: self.id,
            lease: state.lease.clone(),
            state: what,
            tasks: tasks.into_iter().map(running).collect(),
            calls,
            turn: None,
        })
    }

    /// Has the child send the stacks of its code to `receiver`; `false` if it does not run, or too many
    /// requests wait.
    pub(crate) fn ask_stacks(&self, number: u64, receiver: Receiver) -> bool {
        let mut state = self.state();
        if !state.can_look() {
            return false;
        }
        if state.looks.len() >= MAX_REQUESTS {
            state
                .looks
                .retain(|_, (_, since)| since.elapsed() < PATIENCE);
        }
        if state.looks.len() >= MAX_REQUESTS {
            return false;
        }
        state.looks.insert(number, (receiver, Instant::now()));
        let mut frame = FrameWriter::new(to_child::INSPECT);
        frame.word(number);
        self.send_control(&state, frame.finish());
        true
    }

    /// Has the child sample the code of its lease; `false` if that is another one, or too many profiles are
    /// made.
    pub(super) fn start_profile(
        &self,
        lease: u64,
        receiver: LocalPid,
        number: u64,
        milliseconds: u32,
    ) -> bool {
        let mut state = self.state();
        let is_served = state
            .lease
            .as_ref()
            .is_some_and(|served| served.id == lease);
        if !is_served || !state.can_look() || state.profiles.len() >= MAX_REQUESTS {
            return false;
        }
        state.profiles.insert(number, receiver);
        let mut frame = FrameWriter::new(to_child::PROFILE);
        frame.word(number).word(lease).word(milliseconds.into());
        self.send_control(&state, frame.finish());
        true
    }
}

impl State {
    fn can_look(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Ending) && !self.is_killed
    }
}

/// Passes the stacks of a child on. `None` is a frame that breaks the protocol.
pub(super) fn stacks(worker: &ProcessWorker, mut fields: Fields<'_>) -> Option<()> {
    let number = fields.word()?;
    let stack = frames(&mut fields)?;
    let count = fields.word()?;
    (count <= MAX_OPEN as u64).then_some(())?;
    let task = |_| Some((fields.word()?, frames(&mut fields)?));
    let tasks: Option<Vec<_>> = (0..count).map(task).collect();
    let tasks = tasks?;
    let asked = worker.state().looks.remove(&number);
    // A request that was given up is answered in vain.
    if let Some((Receiver { pid, index }, _)) = asked {
        let found = Stacks {
            index,
            stack,
            tasks,
        };
        send_stacks(pid, number, &[found]);
    }
    Some(())
}

fn frames(fields: &mut Fields<'_>) -> Option<Vec<Frame>> {
    let count = fields.word()?;
    (count <= MAX_FRAMES).then_some(())?;
    let text = |fields: &mut Fields<'_>| {
        let text = fields.text().filter(|text| text.len() <= MAX_TEXT)?;
        Some(text.to_owned())
    };
    let frame = |_| {
        Some(Frame {
            file: text(fields)?,
            line: u32::try_from(fields.word()?).ok()?,
            function: text(fields)?,
        })
    };
    (0..count).map(frame).collect()
}

/// Passes a profile on. `None` is a frame that breaks the protocol.
pub(super) fn profiled(worker: &ProcessWorker, mut fields: Fields<'_>) -> Option<()> {
    let number = fields.word()?;
    let folded = fields.rest();
    (folded.len() <= MAX_PROFILE).then_some(())?;
    let receiver = worker.state().profiles.remove(&number)?;
    send_profile(receiver, number, Some(&String::from_utf8_lossy(folded)));
    Some(())
}
