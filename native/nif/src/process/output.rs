//! What the code of a child has written and logged. Called by the thread of the children; blocks on nothing.
//! `None` is a frame that breaks the protocol: the child is killed.

use py_codec::frame::Fields;
use py_engine::host::{LogRecord, Stream};

use super::reply::MAX_TEXT;
use super::worker::ProcessWorker;
use crate::host::{Written, write_or_drop};
use crate::vm::VM;

/// Text of a job, or of a thread that outlives its job: that goes to the process of the last job.
pub(super) fn text(worker: &ProcessWorker, mut fields: Fields<'_>) -> Option<()> {
    let job = fields.word()?;
    let stream = match fields.byte()? {
        0 => Stream::Stdout,
        1 => Stream::Stderr,
        _ => return None,
    };
    let text = String::from_utf8_lossy(fields.rest());
    let state = worker.state();
    if let Some(sent) = state.jobs.get(&job) {
        sent.job.set_printed();
    }
    let caller = state.caller_of(job);
    drop(state);
    write_or_drop(caller, &Written::Text(stream, &text));
    Some(())
}

/// A log record.
pub(super) fn log(worker: &ProcessWorker, mut fields: Fields<'_>) -> Option<()> {
    let job = fields.word()?;
    let level = u32::try_from(fields.word()?).ok()?;
    let name = |fields: &mut Fields<'_>| {
        let text = fields.text().filter(|text| text.len() <= MAX_TEXT);
        text.map(str::to_owned)
    };
    let (logger, file) = (name(&mut fields)?, name(&mut fields)?);
    let line = u32::try_from(fields.word()?).ok()?;
    let function = name(&mut fields)?;
    let record = LogRecord {
        level,
        message: String::from_utf8_lossy(fields.rest()).into_owned(),
        logger,
        file,
        line,
        function,
    };
    let state = worker.state();
    let caller = state.caller_of(job);
    let lease = state.lease.as_ref().map(|lease| lease.id);
    drop(state);
    write_or_drop(caller, &Written::Log(&record, lease));
    Some(())
}

/// Whether more output of a job is written; `is_late`: its code waits no longer.
pub(super) fn has_room(worker: &ProcessWorker, job: u64, is_late: bool) -> bool {
    let caller = worker.state().caller_of(job);
    if is_late {
        VM.output.give_up(caller);
    }
    VM.output.has_room(caller)
}
