//! The jobs that run in a child in the middle of a call of Erlang: `py:call` by the function that is called.
//!
//! Called on scheduler threads, by destructors and by the thread of the children; blocks on nothing, and
//! sends no message.

use std::sync::Arc;

use py_engine::host::callback::Refused;

use super::state::{After, State};
use super::worker::ProcessWorker;
use crate::job::Job;

/// Most jobs that wait in one call, the same as in a context.
const MAX_NESTED: usize = 256;

impl ProcessWorker {
    /// Queues a job that runs in the middle of a call, and returns its key.
    pub(super) fn submit_nested(&self, number: u64, job: Arc<Job>) -> Result<u64, Refused> {
        let mut after = Vec::new();
        let mut state = self.state();
        let is_killed = state.is_killed;
        let Some(call) = state
            .calls
            .get_mut(&number)
            .filter(|call| call.answer.is_none() && !is_killed)
        else {
            return Err(Refused::Ended);
        };
        if call.queue.len() >= MAX_NESTED {
            return Err(Refused::Full);
        }
        let key = call.queue.push(job);
        self.step_call(&mut state, number, &mut after);
        drop(state);
        self.io.finish(after);
        Ok(key)
    }

    /// Takes a cancelled job out of the queue of a call, if it is there.
    pub(super) fn withdraw_nested(&self, number: u64, key: u64) {
        let mut state = self.state();
        let call = state.calls.get_mut(&number);
        let job = call.and_then(|call| call.queue.remove(key));
        drop(state);
        // The job may hold the last handle of a context, which is dropped without the lock.
        if let Some(job) = job {
            job.settle();
        }
    }

    /// Sends the next job of a call, or its answer when no job is left.
    pub(super) fn step_call(&self, state: &mut State, number: u64, after: &mut Vec<After>) {
        let lease = state.lease.as_ref().map_or(0, |lease| lease.id);
        while let Some(call) = state.calls.get_mut(&number).filter(|call| !call.is_busy) {
            if let Some(job) = call.queue.pop() {
                let is_sent = self.send_job(state, &job, lease, number, after).is_some();
                if let Some(call) = state.calls.get_mut(&number) {
                    call.is_busy = is_sent;
                }
                continue;
            }
            if let Some(frame) = call.answer.take() {
                let is_main = call.is_main;
                state.calls.remove(&number);
                if is_main {
                    self.send_data(state, frame);
                } else {
                    self.send_control(state, frame);
                }
            }
            return;
        }
    }
}
