//! The submission of a job: decoded, checked, copied and queued. Called by the NIFs on scheduler threads: nothing
//! attaches, blocks or sends.

use rustler::schedule::consume_timeslice;
use rustler::{Encoder, Env, NifResult, ResourceArc, Term};
use std::time::Instant;

use crate::error::{Error, Refusable, Refusal};
use crate::job::{Job, ReplyTo};
use crate::pool::{SubmissionHandle, Target};

/// Submits the job of `request`, which is `{Ref, Job, Callers}`, for the calling process.
pub(crate) fn submit<'a>(
    env: Env<'a>,
    target: Term<'a>,
    request: (Term<'a>, Term<'a>, Term<'a>),
    reply_to: ReplyTo,
) -> NifResult<Refusable<ResourceArc<SubmissionHandle>>> {
    let (_, job, _) = request;
    let target = Target::decode(target)?;
    let start = (!Job::check(job)?.is_small()).then(Instant::now);
    let Some(ticket) = target.open_ticket() else {
        return Ok(Err(Refusal(Error::Overloaded)));
    };
    let request = request.encode(env);
    let job = Job::accept(env, request, ticket, target.placement(), reply_to);
    let submitted = target.submit(job);
    if let Some(start) = start {
        charge(env, start);
    }
    Ok(submitted
        .map(|submission| ResourceArc::new(SubmissionHandle::new(submission)))
        .map_err(Refusal))
}

/// Charges the caller the reductions for a copy of big arguments that began at `start`. A whole
/// timeslice is about one millisecond.
pub(crate) fn charge(env: Env<'_>, start: Instant) {
    let percent = start.elapsed().as_micros() / 10;
    if percent > 0 {
        let percent = i32::try_from(percent.min(100)).unwrap_or(100);
        consume_timeslice(env, percent);
    }
}
