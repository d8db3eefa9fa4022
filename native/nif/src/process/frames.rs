//! What becomes of a frame of a child. Called by the thread of the children, which sends messages and
//! replies; blocks on nothing. `None` is a frame that breaks the protocol: the child is killed.

use rustler::{Encoder, ResourceArc, Term};
use std::sync::Arc;
use std::time::Instant;

use py_codec::etf::is_whole;
use py_codec::frame::Fields;
use py_codec::protocol::{VERSION, from_child, function};
use py_engine::host::fifo::Fifo;

use super::call::WaitingChild;
use super::ending::retire;
use super::memory::{SharedMemory, binary};
use super::notice::{Note, notify};
use super::questions::{ask, send, unwatch};
use super::reply::{MAX_TEXT, reply};
use super::state::{After, Call, Phase};
use super::terms::decode;
use super::worker::ProcessWorker;
use super::{look, output};
use crate::atoms;
use crate::convert::Answer;
use crate::error::Error;
use crate::job::{CallbackHandle, CallbackQueue, Pending, ReplyBuffer};
use crate::term::ObjectOwner;
use crate::vm::{VM, next_id, wake_process_io};

/// Added to the ids of calls and monitors of children, so that `py_callback` takes them for no others.
pub(super) const CHILD_IDS: u64 = 1 << 48;

/// Most calls, and most monitors, that a child may have at once: a flood of them ends the child, not the VM.
pub(super) const MAX_OPEN: usize = 1 << 16;

pub(super) fn handle(
    worker: &Arc<ProcessWorker>,
    kind: u8,
    payload: &[u8],
    memory: Option<&ResourceArc<SharedMemory>>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let mut fields = Fields::new(payload);
    match kind {
        from_child::HELLO => (fields.word()? == VERSION).then_some(()),
        from_child::READY => ready(worker, replies),
        from_child::FAILED => {
            let text = fields.rest();
            let text = String::from_utf8_lossy(text.get(..MAX_TEXT).unwrap_or(text)).into_owned();
            notify(worker, replies, Note::Failed(&text));
            Some(())
        }
        from_child::REPLY => reply(worker, fields, memory, replies),
        from_child::CALL => call(worker, fields, memory, replies),
        from_child::END_CALL => end_call(worker, fields, replies),
        from_child::SEND => send(worker, fields, memory, replies),
        from_child::ASK => ask(worker, fields, replies),
        from_child::UNWATCH => unwatch(worker, fields, replies),
        from_child::LEASE_ENDED => lease_ended(worker, fields, replies),
        from_child::THREADS_LEFT => {
            threads_left(worker, None, names(&mut fields)?, replies);
            Some(())
        }
        from_child::CLOSED => {
            let mut state = worker.state();
            state.cleaning = state.cleaning.checked_sub(1)?;
            drop(state);
            again(worker);
            Some(())
        }
        from_child::IMPORTING => {
            let is_importing = fields.byte()? != 0;
            let mut state = worker.state();
            state.is_importing = is_importing;
            if !is_importing {
                // The time for the code after the import begins anew.
                let stops = state
                    .jobs
                    .values_mut()
                    .filter_map(|sent| sent.stop.as_mut());
                stops.for_each(|stop| stop.restarted = Instant::now());
            }
            drop(state);
            wake_process_io();
            Some(())
        }
        from_child::OUTPUT => output::text(worker, fields),
        from_child::LOG => output::log(worker, fields),
        from_child::STACKS => look::stacks(worker, fields),
        from_child::PROFILED => look::profiled(worker, fields),
        _ => None,
    }
}

fn ready(worker: &Arc<ProcessWorker>, replies: &mut ReplyBuffer) -> Option<()> {
    let mut state = worker.state();
    let is_connected = state.data.is_some() && state.control.is_some();
    (state.phase == Phase::Starting && is_connected).then_some(())?;
    state.phase = Phase::Ready;
    drop(state);
    notify(worker, replies, Note::Ready);
    // The children of a closed pool have been told to end before this one was ready.
    let group = worker.group.upgrade().filter(|group| !group.is_closed());
    match group {
        Some(group) => group.add(worker),
        None => retire(worker),
    }
    Some(())
}

/// Has the child do the next thing of its lease.
pub(super) fn again(worker: &Arc<ProcessWorker>) {
    use crate::pool::ServeLease;
    worker.call();
}

pub(super) fn owner(worker: &Arc<ProcessWorker>) -> Arc<dyn ObjectOwner> {
    Arc::clone(worker) as Arc<dyn ObjectOwner>
}

/// A call of Erlang.
fn call(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    memory: Option<&ResourceArc<SharedMemory>>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (number, job) = (fields.word()?, fields.word()?);
    let is_main = fields.byte()? != 0;
    let function = fields.byte()?;
    let name = fields.text().filter(|name| name.len() <= MAX_TEXT)?;
    let is_special = fields.byte()? != 0;
    let args = fields.rest();
    let mut state = worker.state();
    let job = match job {
        0 => None,
        job => Some(Arc::clone(&state.jobs.get(&job)?.job)),
    };
    let id = next_id() | CHILD_IDS;
    let call = Call {
        id,
        is_main,
        queue: Fifo::default(),
        is_busy: false,
        answer: None,
    };
    if state.calls.len() >= MAX_OPEN || state.calls.insert(number, call).is_some() {
        return None;
    }
    let lease = state.lease.as_ref().map(|lease| lease.id);
    drop(state);
    let waiter = WaitingChild {
        worker: Arc::clone(worker),
        call: number,
    };
    let pending = match &job {
        Some(job) => Arc::clone(job.ticket.pending()),
        None => Pending::new(usize::MAX),
    };
    let queue = CallbackQueue::over(Box::new(waiter), job.clone(), pending);
    // Its drop ends the call, also if no message is sent.
    let handle = ResourceArc::new(CallbackHandle(queue));
    let Some(server) = VM.callbacks.pid() else {
        return Some(());
    };
    let mut is_whole_call = true;
    let sent = replies.send_to(&server, |env| {
        let args = if is_special {
            decode(env, args, memory, &owner(worker))
                .map(|(args, _)| (atoms::ok(), args).encode(env))
        } else if is_whole(args) {
            Some((atoms::child(), binary(env, args, memory)).encode(env))
        } else {
            None
        };
        let Some(args) = args else {
            is_whole_call = false;
            return Err(Error::WorkerCrashed);
        };
        let lease = match lease.filter(|_| job.is_some()) {
            Some(lease) => lease.encode(env),
            None => atoms::none().encode(env),
        };
        let callers = match &job {
            Some(job) => job.callers(env),
            None => Term::list_new_empty(env),
        };
        let function = match function {
            function::WAIT_DOWN => atoms::wait_down().encode(env),
            function::WITH_KEYWORDS => (atoms::keywords(), name).encode(env),
            function::STATE => atoms::state().encode(env),
            function::APPLY => atoms::apply().encode(env),
            _ => name.encode(env),
        };
        let callback = (id, &handle, lease, callers);
        let message = (atoms::py_callback(), callback, function, args).encode(env);
        Ok(Answer::compact(message))
    });
    let (Ok(_) | Err(_)) = sent;
    is_whole_call.then_some(())
}

fn end_call(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let ended = worker.state().calls.remove(&fields.word()?);
    // The call may have got its answer meanwhile.
    let Some(mut call) = ended else {
        return Some(());
    };
    while let Some(job) = call.queue.pop() {
        replies.refuse(&job, Error::ContextNotBound);
    }
    if let Some(server) = VM.callbacks.pid() {
        replies.notify(&server, (atoms::py_callback(), call.id, atoms::ended()));
    }
    Some(())
}

/// The child has emptied the namespace of its lease.
fn lease_ended(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let mut state = worker.state();
    (state.phase == Phase::Ending && state.main.is_none()).then_some(())?;
    let names = names(&mut fields)?;
    state.cleaning = state.cleaning.checked_sub(1)?;
    let lease = state.lease.take()?;
    drop(state);
    threads_left(worker, Some(lease.id), names, replies);
    lease.leave(replies, || Error::ContextNotBound);
    let released = After::Release(Arc::clone(worker));
    worker.io.finish(vec![released]);
    Some(())
}

/// Reads the names of threads that go on.
fn names(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let count = fields.word()?;
    (count <= MAX_OPEN as u64).then_some(())?;
    (0..count)
        .map(|_| fields.text().map(str::to_owned))
        .collect()
}

/// Counts the threads that a lease or a job without one has left, and tells the manager of the pool.
fn threads_left(
    worker: &ProcessWorker,
    lease: Option<u64>,
    names: Vec<String>,
    replies: &mut ReplyBuffer,
) {
    let group = worker.group.upgrade().filter(|_| !names.is_empty());
    let Some(pool) = group.and_then(|group| group.pool()) else {
        return;
    };
    let left = &pool.left_threads;
    left.fetch_add(names.len(), std::sync::atomic::Ordering::Relaxed);
    match lease {
        Some(id) => replies.notify(&pool.manager, (atoms::py_threads(), id, names)),
        None => replies.notify(&pool.manager, (atoms::py_threads(), atoms::none(), names)),
    }
}
