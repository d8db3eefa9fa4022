//! Calls of Erlang by code in a child, and monitors, as `py_callback` sees them.
//!
//! Called on scheduler threads and by destructors: nothing blocks or sends a message.

use rustler::{Encoder, OwnedEnv, Term};
use std::sync::Arc;

use py_codec::frame::{FrameWriter, Message};
use py_codec::protocol::{outcome, to_child};
use py_engine::host::callback::Refused;

use super::terms;
use super::worker::ProcessWorker;
use crate::atoms;
use crate::error::{Error, Why};
use crate::job::{Job, Waiter};

/// Code in a child that waits for the answer of a call.
pub(super) struct WaitingChild {
    pub(super) worker: Arc<ProcessWorker>,
    /// The number by which the child knows the call.
    pub(super) call: u64,
}

impl WaitingChild {
    fn end(&self, outcome: u8, term: Option<Term<'_>>) {
        let frame = answer(self.worker.id, self.call, outcome, term);
        let mut after = Vec::new();
        let mut state = self.worker.state();
        if let Some(call) = state.calls.get_mut(&self.call) {
            call.answer.get_or_insert(frame);
            self.worker.step_call(&mut state, self.call, &mut after);
        }
        drop(state);
        self.worker.io.finish(after);
    }
}

/// Returns the frame of an answer.
pub(super) fn answer(worker: u64, call: u64, outcome: u8, term: Option<Term<'_>>) -> Message {
    let mut frame = FrameWriter::new(to_child::ANSWER);
    frame.word(call).byte(outcome);
    let Some(term) = term else {
        return frame.finish();
    };
    let error = match frame.last(|body| terms::encode(term, worker, body)) {
        Ok(()) if !frame.is_too_long() => return frame.finish(),
        Ok(()) => Error::unconvertible(Why::TooLarge, "result"),
        Err(error) => error,
    };
    let mut frame = FrameWriter::new(to_child::ANSWER);
    frame.word(call);
    if outcome == outcome::FAILED
        && let Ok((_class, reason, stack)) = term.decode::<(Term<'_>, Term<'_>, Term<'_>)>()
    {
        frame.byte(outcome::FAILED_OPAQUE);
        frame.bytes(&reason.to_binary()).bytes(&stack.to_binary());
        frame.rest(&term.to_binary());
        if !frame.is_too_long() {
            return frame.finish();
        }
        frame = FrameWriter::new(to_child::ANSWER);
        frame.word(call);
    }
    frame.byte(outcome::UNCONVERTIBLE);
    frame.rest(error.to_string().as_bytes());
    frame.finish()
}

impl Waiter for WaitingChild {
    fn submit(&self, job: Arc<Job>) -> Result<u64, Refused> {
        self.worker.submit_nested(self.call, job)
    }

    fn withdraw(&self, key: u64) {
        self.worker.withdraw_nested(self.call, key);
    }

    fn answer(&self, answer: Term<'_>) {
        if atoms::not_registered() == answer {
            return self.end(outcome::UNKNOWN, None);
        }
        if atoms::no_keywords() == answer {
            return self.end(outcome::NO_KEYWORDS, None);
        }
        match answer.decode::<(Term<'_>, Term<'_>)>() {
            Ok((_ok, value)) => self.end(outcome::VALUE, Some(value)),
            Err(_) => self.end(outcome::FAILED, Some(answer)),
        }
    }

    fn lose(&self) {
        self.end(outcome::LOST, None);
    }
}

/// A monitor of a child.
pub(super) struct ChildWatch {
    pub(super) worker: Arc<ProcessWorker>,
    /// The id by which `py_callback` and the child know the monitor.
    pub(super) id: u64,
}

impl ChildWatch {
    /// Tells the child the end of the process, once, and not if the child has dropped the monitor.
    fn down(&self, reason: Term<'_>) {
        if !self.worker.state().watches.remove(&self.id) {
            return;
        }
        let frame = || {
            let mut frame = FrameWriter::new(to_child::DOWN);
            frame.word(self.id);
            let written = frame.last(|body| terms::encode(reason, self.worker.id, body));
            if written.is_ok() && !frame.is_too_long() {
                return frame.finish();
            }
            FrameWriter::new(to_child::DOWN).word(self.id).finish()
        };
        let frames = (frame(), frame());
        let state = self.worker.state();
        // By `data` before any answer that follows; by `control` also while the main thread computes.
        self.worker.send_data(&state, frames.0);
        self.worker.send_control(&state, frames.1);
    }
}

impl Waiter for ChildWatch {
    fn submit(&self, _job: Arc<Job>) -> Result<u64, Refused> {
        Err(Refused::Ended)
    }

    fn withdraw(&self, _key: u64) {}

    /// Passes the reason of `{ok, Reason}` on.
    fn answer(&self, answer: Term<'_>) {
        if let Ok((_ok, reason)) = answer.decode::<(Term<'_>, Term<'_>)>() {
            self.down(reason);
        }
    }

    fn lose(&self) {
        OwnedEnv::new().run(|env| self.down("noconnection".encode(env)));
    }
}
