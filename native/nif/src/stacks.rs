//! The answers to a dump and to a profile, as messages. Sent by the inspector and by the thread of the
//! children, never on a scheduler thread.

use py_engine::inspect::Frame;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};

use crate::atoms;

/// The stacks of one worker.
pub(crate) struct Stacks {
    /// The place of the worker in the dump.
    pub(crate) index: usize,
    pub(crate) stack: Vec<Frame>,
    /// Each with the key of its job.
    pub(crate) tasks: Vec<(u64, Vec<Frame>)>,
}

/// Sends `{py_stacks, Number, [{Index, Stack, Tasks}]}` to a process that waits for it.
pub(crate) fn send_stacks(receiver: LocalPid, number: u64, found: &[Stacks]) {
    send(receiver, |env| {
        let found: Vec<_> = found
            .iter()
            .map(|stacks| stacks_term(env, stacks))
            .collect();
        (atoms::py_stacks(), number, found).encode(env)
    });
}

/// Returns `{Index, Stack, [{Key, Stack}]}`.
fn stacks_term<'a>(env: Env<'a>, stacks: &Stacks) -> Term<'a> {
    let tasks = stacks.tasks.iter();
    let tasks = tasks.map(|(key, frames)| (*key, stack_term(env, frames)));
    let tasks: Vec<_> = tasks.collect();
    (stacks.index, stack_term(env, &stacks.stack), tasks).encode(env)
}

/// Returns `[{File, Line, Function}]`.
fn stack_term<'a>(env: Env<'a>, frames: &[Frame]) -> Term<'a> {
    let frames = frames.iter();
    let frames = frames.map(|frame| (&*frame.file, frame.line, &*frame.function).encode(env));
    frames.collect::<Vec<_>>().encode(env)
}

/// Sends `{py_profile, Number, Folded}`; for `None`, when the code has ended with its process, `ended` in its
/// place.
pub(crate) fn send_profile(receiver: LocalPid, number: u64, folded: Option<&str>) {
    send(receiver, |env| {
        let folded = folded.map_or_else(|| atoms::ended().encode(env), |text| text.encode(env));
        (atoms::py_profile(), number, folded).encode(env)
    });
}

/// Sends a message. A process that has ended gets nothing.
fn send(receiver: LocalPid, message: impl FnOnce(Env<'_>) -> Term<'_>) {
    let _: Result<(), _> = OwnedEnv::new().send_and_clear(&receiver, message);
}
