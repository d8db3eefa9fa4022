//! The end of a job, as the child says it: settles the job, and sends the reply. Called by the thread of
//! the children; blocks on nothing. `None` is a frame that breaks the protocol.

use rustler::{Encoder, Env, ResourceArc};
use std::sync::Arc;

use py_codec::etf::is_whole;
use py_codec::frame::Fields;
use py_codec::protocol::status;

use super::frames::{again, owner};
use super::memory::{SharedMemory, binary};
use super::request::stream_of;
use super::state::After;
use super::terms::decode;
use super::worker::ProcessWorker;
use crate::atoms;
use crate::convert::Answer;
use crate::error::{Error, Exited};
use crate::job::{Job, ReplyBuffer};
use crate::pool::Lease;

/// Most bytes of a text that a child says.
pub(super) const MAX_TEXT: usize = 1 << 16;

/// The end of a job, or its first part.
pub(super) fn reply(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    memory: Option<&ResourceArc<SharedMemory>>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (number, status) = (fields.word()?, fields.byte()?);
    let is_special = fields.byte()? != 0;
    let body = Body {
        is_special,
        bytes: fields.rest(),
        memory,
    };
    let mut state = worker.state();
    let is_main = state.main == Some(number);
    if status == status::DEFERRED {
        (is_main && state.lease.is_some()).then(|| state.main = None)?;
        drop(state);
        again(worker);
        return Some(());
    }
    let sent = state.jobs.remove(&number)?;
    if is_main {
        state.main = None;
        state.is_importing = false;
    }
    let lease = if status == status::CRASHED {
        // A panic may have left the child with half a change.
        worker.kill(&mut state, None);
        state.lease.take()
    } else {
        state.lease.clone()
    };
    drop(state);
    let job = &sent.job;
    let is_outermost = sent.call == 0;
    let has_crashed = status == status::CRASHED;
    if has_crashed {
        if let Some(lease) = &lease
            && is_outermost
        {
            lease.finish_job();
        }
        crash(worker, lease.as_ref(), replies);
    }
    // Nothing else may use the buffer until the message is sent.
    let mut is_whole = true;
    let message = replies.write(job, |env| {
        let made = result(worker, env, job, status, &body);
        is_whole = !matches!(made, Err(Error::WorkerExited(_)));
        made
    });
    if let Some(stream) = stream_of(job) {
        match status {
            status::ITEMS => {}
            status::END => _ = stream.finish(),
            _ => _ = stream.fail(),
        }
    }
    if is_outermost
        && !has_crashed
        && let Some(lease) = &lease
    {
        lease.finish_job();
    }
    if let Some(mut message) = message {
        if status == status::RAISED {
            message.set_error();
        }
        replies.send_reply(job, message);
    }
    if job.demand().is_some_and(|demand| demand.frees_lease())
        && let Some(lease) = &lease
    {
        lease.end();
    }
    if !is_outermost {
        let mut after = Vec::new();
        let mut state = worker.state();
        if let Some(call) = state.calls.get_mut(&sent.call) {
            call.is_busy = false;
        }
        worker.step_call(&mut state, sent.call, &mut after);
        drop(state);
        worker.io.finish(after);
    }
    if is_outermost {
        if lease.is_some() {
            again(worker);
        } else {
            let released = After::Release(Arc::clone(worker));
            worker.io.finish(vec![released]);
        }
    }
    is_whole.then_some(())
}

/// Ends the jobs and the lease of a child in which code has panicked, before the reply: a caller that has its
/// reply finds no context.
fn crash(worker: &ProcessWorker, lease: Option<&Arc<Lease>>, replies: &mut ReplyBuffer) {
    let jobs = std::mem::take(&mut worker.state().jobs);
    for sent in jobs.into_values() {
        if let Some(lease) = lease.filter(|_| sent.call == 0) {
            lease.finish_job();
        }
        replies.refuse(&sent.job, Error::WorkerCrashed);
    }
    if let Some(lease) = lease {
        lease.end();
        lease.leave(replies, || Error::WorkerCrashed);
    }
}

/// What a reply says beside its status.
struct Body<'a> {
    /// The term has parts that the BEAM cannot decode, or need not copy.
    is_special: bool,
    bytes: &'a [u8],
    /// What the bytes are in, if the child shares them.
    memory: Option<&'a ResourceArc<SharedMemory>>,
}

/// Returns what a reply says, as a term of the message.
fn result<'a>(
    worker: &Arc<ProcessWorker>,
    env: Env<'a>,
    job: &Job,
    status: u8,
    body: &Body<'_>,
) -> Result<Answer<'a>, Error> {
    let malformed = || Error::WorkerExited(Exited::Malformed);
    let bytes = body.bytes;
    let term = |tag: rustler::Atom| {
        let (term, has_garbage) =
            decode(env, bytes, body.memory, &owner(worker)).ok_or_else(malformed)?;
        let answer = Answer {
            has_garbage,
            ..Answer::compact((tag, term).encode(env))
        };
        Ok(answer)
    };
    match status {
        status::DONE => Ok(Answer::compact(atoms::ok().encode(env))),
        status::VALUE if body.is_special || job.demand().is_some() => term(atoms::ok()),
        status::VALUE => {
            if !is_whole(bytes) {
                return Err(malformed());
            }
            // The caller decodes: into its own heap, and refusing what would make an atom.
            let binary = binary(env, bytes, body.memory);
            Ok(Answer::compact((atoms::child(), binary).encode(env)))
        }
        status::ITEMS if job.demand().is_some() => term(atoms::items()),
        status::END if job.demand().is_some() => Ok(Answer::compact(atoms::done().encode(env))),
        status::RAISED => term(atoms::error()),
        status::UNCONVERTIBLE => {
            let error = Fields::new(bytes).unconvertible().ok_or_else(malformed)?;
            Err(Error::Unconvertible(error))
        }
        status::INTERRUPTED => Err(Error::Interrupted),
        status::CRASHED => Err(Error::WorkerCrashed),
        status::REFUSED => Err(Error::ContextNotBound),
        _ => Err(malformed()),
    }
}
