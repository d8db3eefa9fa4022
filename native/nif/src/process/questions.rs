//! Messages, questions and monitors of Python code in a child. Called by the thread of the children, which
//! sends; blocks on nothing. `None` is a frame that breaks the protocol: the child is killed.

use rustler::{Encoder, Env, OwnedEnv, ResourceArc, Term};
use std::sync::Arc;

use py_codec::frame::Fields;
use py_codec::protocol::{outcome, question};

use super::call::{ChildWatch, answer};
use super::frames::{CHILD_IDS, MAX_OPEN, owner};
use super::memory::SharedMemory;
use super::output::has_room;
use super::reply::MAX_TEXT;
use super::terms::decode;
use super::worker::ProcessWorker;
use crate::atoms;
use crate::convert::Answer;
use crate::error::Error;
use crate::host::{Destination, Outgoing, existing_atom};
use crate::job::{CallbackHandle, CallbackQueue, Pending, ReplyBuffer};
use crate::term::OfBeam;
use crate::vm::{VM, next_id};

/// Answers a question, or says what has become of a message.
fn tell(worker: &ProcessWorker, call: u64, is_main: bool, outcome: u8, term: Option<Term<'_>>) {
    let frame = answer(worker.id, call, outcome, term);
    let state = worker.state();
    if is_main {
        worker.send_data(&state, frame);
    } else {
        worker.send_control(&state, frame);
    }
}

/// A message of Python code.
pub(super) fn send(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    memory: Option<&ResourceArc<SharedMemory>>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (call, is_main) = (fields.word()?, fields.byte()? != 0);
    let dest = fields.bytes().filter(|dest| dest.len() <= MAX_TEXT)?;
    let _is_special = fields.byte()?;
    let message = fields.rest();
    let env = OwnedEnv::new();
    let dest = env.run(|env| {
        decode(env, dest, None, &owner(worker)).map(|(dest, _)| Destination::of_term(dest))
    })?;
    let mut is_whole = true;
    let outcome = match dest {
        Destination::Local(pid) => {
            let sent = replies.send_to(&pid, |env| message_term(worker, env, message, memory));
            is_whole = sent.is_ok();
            outcome::VALUE
        }
        Destination::Far(far) => match (VM.callbacks.pid(), Outgoing::try_enter(&far)) {
            (Some(server), Some(outgoing)) => {
                let sent = replies.send_to(&server, |env| {
                    let message = message_term(worker, env, message, memory)?;
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
    memory: Option<&ResourceArc<SharedMemory>>,
) -> Result<Answer<'a>, Error> {
    let (term, has_garbage) =
        decode(env, bytes, memory, &owner(worker)).ok_or(Error::WorkerCrashed)?;
    Ok(Answer {
        has_garbage,
        ..Answer::compact(term)
    })
}

/// A question of Python code.
pub(super) fn ask(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let (call, is_main, question) = (fields.word()?, fields.byte()? != 0, fields.byte()?);
    let argument = fields.rest();
    if question == question::WATCH {
        return watch(worker, call, is_main, argument, replies);
    }
    let own = OwnedEnv::new();
    own.run(|env| {
        let found = match question {
            question::RELOADED => {
                let generation = Fields::new(argument).word()?;
                let group = worker.group.upgrade()?;
                Some(group.reloaded_after(generation).encode(env))
            }
            question::IS_REGISTERED => {
                let name = std::str::from_utf8(argument).ok()?;
                VM.callbacks
                    .is_registered(name)
                    .then(|| atoms::true_().encode(env))
            }
            question::REGISTERED => Some(VM.callbacks.registered().encode(env)),
            question::WHEREIS => {
                let (name, _) = decode(env, argument, None, &owner(worker))?;
                match Destination::of_term(name) {
                    Destination::Local(pid) => Some(pid.encode(env)),
                    _ => None,
                }
            }
            question::HAS_ROOM => {
                let mut fields = Fields::new(argument);
                let job = fields.word()?;
                let is_late = fields.byte()? != 0;
                has_room(worker, job, is_late).then(|| atoms::true_().encode(env))
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
    let own = OwnedEnv::new();
    let dest = own.run(|env| {
        decode(env, dest, None, &owner(worker)).map(|(dest, _)| Destination::of_term(dest))
    })?;
    let (Some(server), false) = (VM.callbacks.pid(), matches!(dest, Destination::Unknown)) else {
        tell(worker, call, is_main, outcome::UNKNOWN, None);
        return Some(());
    };
    let id = next_id() | CHILD_IDS;
    let waiter = ChildWatch {
        worker: Arc::clone(worker),
        id,
    };
    let queue = CallbackQueue::over(Box::new(waiter), None, Pending::new(usize::MAX));
    {
        let mut state = worker.state();
        if state.watches.len() >= MAX_OPEN {
            return None;
        }
        state.watches.insert(id);
    }
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

/// The end of a monitor that Python code has dropped.
pub(super) fn unwatch(
    worker: &Arc<ProcessWorker>,
    mut fields: Fields<'_>,
    replies: &mut ReplyBuffer,
) -> Option<()> {
    let id = fields.word()?;
    let is_known = worker.state().watches.remove(&id);
    if let (true, Some(server)) = (is_known, VM.callbacks.pid()) {
        replies.notify(&server, (atoms::py_callback(), id, atoms::ended()));
    }
    Some(())
}
