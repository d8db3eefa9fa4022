//! What the manager of a pool is told of its children. Called by the thread of the children, which sends.

use rustler::LocalPid;

use super::worker::ProcessWorker;
use crate::atoms;
use crate::error::Exited;
use crate::job::ReplyBuffer;

/// What the manager of a pool is told of a child.
pub(super) enum Note<'a> {
    Ready,
    Failed(&'a str),
    /// The child was told to end, since it is worn.
    Retired,
    Exited(Exited),
}

/// Notifies the manager of the pool of a child.
pub(super) fn notify(worker: &ProcessWorker, replies: &mut ReplyBuffer, note: Note<'_>) {
    let group = worker.group.upgrade();
    let Some(pool) = group.and_then(|group| group.pool()) else {
        return;
    };
    let to: &LocalPid = &pool.manager;
    let (tag, id) = (atoms::py_child(), worker.id);
    match note {
        Note::Ready => replies.notify(to, (tag, id, atoms::ready())),
        Note::Failed(text) => replies.notify(to, (tag, id, (atoms::failed(), text))),
        Note::Retired => replies.notify(to, (tag, id, atoms::retired())),
        Note::Exited(exited) => replies.notify(to, (tag, id, (atoms::exited(), exited))),
    }
}
