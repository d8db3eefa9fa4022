//! What becomes of a frame of a child. Called by the thread of the children, which sends messages and
//! replies; blocks on nothing. `None` is a frame that breaks the protocol: the child is killed.

use rustler::{Encoder, Env, ResourceArc, Term};
use std::sync::Arc;

use py_codec::etf::is_whole;
use py_codec::frame::Fields;
use py_codec::protocol::{VERSION, from_child, function, outcome, question};
use py_engine::host::fifo::Fifo;

use super::call::{ChildWatch, WaitingChild, answer};
use super::io::{Note, notify};
use super::reply::{MAX_TEXT, reply};
use super::state::{After, Call, Phase};
use super::terms::decode;
use super::worker::ProcessWorker;
use crate::atoms;
use crate::convert::Answer;
use crate::error::Error;
use crate::host::{self, Destination, Outgoing, existing_atom};
use crate::job::{CallbackHandle, CallbackQueue, Pending, ReplyBuffer};
use crate::term::{ObjectOwner, OfBeam};
use crate::vm::next_id;

/// Added to the ids of calls and monitors of children, so that `py_callback` takes them for no others.
const CHILD_IDS: u64 = 1 << 48;

pub(super) fn handle(
    worker: &Arc<ProcessWorker>,
    kind: u8,
    payload: &[u8],
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
        from_child::REPLY => reply(worker, fields, replies),
        from_child::CALL => call(worker, fields, replies),
        from_child::END_CALL => end_call(worker, fields, replies),
        from_child::SEND => send(worker, fields, replies),
        from_child::ASK => ask(worker, fields, replies),
        from_child::UNWATCH => unwatch(worker, fields, replies),
        from_child::LEASE_ENDED => lease_ended(worker, fields, replies),
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
                for sent in state.jobs.values_mut() {
                    let now = std::time::Instant::now();
                    sent.stops_since = sent.stops_since.map(|_| now);
                }
            }
            drop(state);
            worker.io.wake();
            Some(())
        }
        _ => None,
    }
}

fn ready(worker: &Arc<ProcessWorker>, replies: &mut ReplyBuffer) -> Option<()> {
    let mut state = worker.state();
    (state.phase == Phase::Starting).then_some(())?;
    state.phase = Phase::Ready;
    drop(state);
    notify(worker, replies, Note::Ready);
    if let Some(group) = worker.group.upgrade() {
        group.add(worker);
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
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (number, job) = (fields.word()?, fields.word()?);
    let is_main = fields.byte()? != 0;
    let function = fields.byte()?;
    let name = fields.text()?.to_owned();
    let has_objects = fields.byte()? != 0;
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
    if state.calls.insert(number, call).is_some() {
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
    let Some(server) = host::server() else {
        return Some(());
    };
    let mut is_whole_call = true;
    let sent = replies.send_to(&server, |env| {
        let args = if has_objects {
            decode(env, args, &owner(worker)).map(|(args, _)| (atoms::ok(), args).encode(env))
        } else if is_whole(args) {
            let mut binary = rustler::NewBinary::new(env, args.len());
            binary.as_mut_slice().copy_from_slice(args);
            Some((atoms::child(), Term::from(binary)).encode(env))
        } else {
            None
        };
        let Some(args) = args else {
            is_whole_call = false;
            return Err(Error::WorkerCrashed);
        };
        let handle = ResourceArc::new(CallbackHandle(queue));
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
            _ => name.encode(env),
        };
        let callback = (id, handle, lease, callers);
        let message = (atoms::py_callback(), callback, function, args).encode(env);
        Ok(Answer::compact(message))
    });
    // The drop of the handle has ended the call, if the message was not sent.
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
    if let Some(server) = host::server() {
        replies.notify(&server, (atoms::py_callback(), call.id, atoms::ended()));
    }
    Some(())
}

/// Answers a question, or says what has become of a message.
fn tell(worker: &ProcessWorker, call: u64, is_main: bool, outcome: u8, term: Option<Term<'_>>) {
    let frame = answer(worker.id, call, outcome, term);
    let state = worker.state();
    if is_main {
        worker.send_data(&state, &frame);
    } else {
        worker.send_control(&state, &frame);
    }
}

/// A message of Python code.
fn send(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (call, is_main) = (fields.word()?, fields.byte()? != 0);
    let dest = fields.bytes()?;
    let _has_objects = fields.byte()?;
    let message = fields.rest();
    let env = rustler::OwnedEnv::new();
    let dest = env
        .run(|env| decode(env, dest, &owner(worker)).map(|(dest, _)| Destination::of_term(dest)))?;
    let mut is_whole = true;
    let outcome = match dest {
        Destination::Local(pid) => {
            let sent = replies.send_to(&pid, |env| message_term(worker, env, message));
            is_whole = sent.is_ok();
            outcome::VALUE
        }
        Destination::Far(far) => match (host::server(), Outgoing::try_enter(&far)) {
            (Some(server), Some(outgoing)) => {
                let sent = replies.send_to(&server, |env| {
                    let message = message_term(worker, env, message)?;
                    let dest = far.to_term(env);
                    Ok(message
                        .map(|message| (atoms::py_send(), dest, message, outgoing).encode(env)))
                });
                is_whole = sent.is_ok();
                outcome::VALUE
            }
            _ => outcome::OVERLOADED,
        },
        Destination::Unknown => outcome::UNKNOWN,
    };
    if call != 0 {
        tell(worker, call, is_main, outcome, None);
    }
    is_whole.then_some(())
}

/// Returns the term of a message.
fn message_term<'a>(
    worker: &Arc<ProcessWorker>,
    env: Env<'a>,
    bytes: &[u8],
) -> Result<Answer<'a>, Error> {
    let (term, has_garbage) = decode(env, bytes, &owner(worker)).ok_or(Error::WorkerCrashed)?;
    Ok(Answer {
        has_garbage,
        ..Answer::compact(term)
    })
}

fn ask(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (call, is_main, question) = (fields.word()?, fields.byte()? != 0, fields.byte()?);
    let argument = fields.rest();
    if question == question::WATCH {
        return watch(worker, call, is_main, argument, replies);
    }
    let own = rustler::OwnedEnv::new();
    own.run(|env| {
        let found = match question {
            question::IS_REGISTERED => {
                let name = std::str::from_utf8(argument).ok()?;
                host::is_registered(name).then(|| atoms::true_().encode(env))
            }
            question::REGISTERED => Some(host::registered().encode(env)),
            question::WHEREIS => {
                let (name, _) = decode(env, argument, &owner(worker))?;
                match Destination::of_term(name) {
                    Destination::Local(pid) => Some(pid.encode(env)),
                    _ => None,
                }
            }
            question::ATOM => existing_atom(env, std::str::from_utf8(argument).ok()?),
            _ => return None,
        };
        let outcome = if found.is_some() {
            outcome::VALUE
        } else {
            outcome::UNKNOWN
        };
        tell(worker, call, is_main, outcome, found);
        Some(())
    })
}

/// Monitors a process for Python code.
fn watch(
    worker: &Arc<ProcessWorker>,
    call: u64,
    is_main: bool,
    dest: &[u8],
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let own = rustler::OwnedEnv::new();
    let dest = own
        .run(|env| decode(env, dest, &owner(worker)).map(|(dest, _)| Destination::of_term(dest)))?;
    let (Some(server), false) = (host::server(), matches!(dest, Destination::Unknown)) else {
        tell(worker, call, is_main, outcome::UNKNOWN, None);
        return Some(());
    };
    let id = next_id() | CHILD_IDS;
    let waiter = ChildWatch {
        worker: Arc::clone(worker),
        id,
    };
    let queue = CallbackQueue::over(Box::new(waiter), None, Pending::new(usize::MAX));
    worker.state().watches.insert(id);
    // Told first: the end of the process may follow at once.
    own.run(|env| tell(worker, call, is_main, outcome::VALUE, Some(id.encode(env))));
    let sent = replies.send_to(&server, |env| {
        let target = match &dest {
            Destination::Local(pid) => pid.encode(env),
            Destination::Far(far) => far.to_term(env),
            Destination::Unknown => atoms::none().encode(env),
        };
        let handle = ResourceArc::new(CallbackHandle(queue));
        let message = (atoms::py_monitor(), id, handle, target).encode(env);
        Ok(Answer::compact(message))
    });
    // A message that was not sent has dropped the handle, and so has told the child.
    let (Ok(_) | Err(_)) = sent;
    Some(())
}

fn unwatch(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let id = fields.word()?;
    let is_known = worker.state().watches.remove(&id);
    if let (true, Some(server)) = (is_known, host::server()) {
        replies.notify(&server, (atoms::py_callback(), id, atoms::ended()));
    }
    Some(())
}

/// The child has emptied the namespace of its lease.
fn lease_ended(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let count = fields.word()?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(fields.text()?.to_owned());
    }
    let mut state = worker.state();
    (state.phase == Phase::Ending && state.main.is_none()).then_some(())?;
    state.cleaning = state.cleaning.checked_sub(1)?;
    let lease = state.lease.take()?;
    drop(state);
    if !names.is_empty()
        && let Some(pool) = worker.group.upgrade().and_then(|group| group.pool())
    {
        let left = &pool.left_threads;
        left.fetch_add(names.len(), std::sync::atomic::Ordering::Relaxed);
        replies.notify(&pool.manager, (atoms::py_threads(), lease.id, names));
    }
    lease.leave(replies, || Error::ContextNotBound);
    let released = After::Release(Arc::clone(worker));
    worker.io.finish(vec![released]);
    Some(())
}
