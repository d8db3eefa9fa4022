//! Counts the messages that go to other nodes through `py_callback`, by node: a node that is slow
//! must not fill the memory of this one.
//!
//! `enter` is called on threads that run Python code, attached, and blocks for at most a second,
//! detached. `leave` is called on scheduler threads and by destructors. Locks are held for a look.

use pyo3::prelude::*;
use rustler::{Encoder, Resource, ResourceArc, Term};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use py_engine::host::Host;
use py_engine::lock::lock;

use crate::term::{ErlangTerm, OfBeam};
use crate::vm::VM;

/// The number of messages that may wait for one node, in `py_callback` and in the node's sender.
const CAPACITY: usize = 1000;

/// How long a message waits for room: a burst to a node that takes its messages is slowed by that,
/// and a node that takes none costs its senders no more.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between two looks for room.
const PAUSE: Duration = Duration::from_millis(2);

/// The tag of a pid in the external term format, and the size of the numbers after its node's name.
const NEW_PID: u8 = 88;
const PID_NUMBERS: usize = 12;

/// The count of one message. A term of the message refers to it: its drop counts a message that is
/// lost with a process.
pub(crate) struct Outgoing {
    /// The node for which the message is counted; `None` when it is counted no more.
    node: Mutex<Option<Vec<u8>>>,
}

#[rustler::resource_impl]
impl Resource for Outgoing {}

impl Outgoing {
    /// Counts a message to the node of `dest`, and waits for room, detached; `None` if there is
    /// none after a second, or if the job must stop.
    pub(super) fn enter(
        py: Python<'_>,
        dest: &ErlangTerm,
        host: &dyn Host,
    ) -> Option<ResourceArc<Self>> {
        let node = dest.with(node_of);
        if !count(&node) && !py.detach(|| wait_for_room(&node, host)) {
            return None;
        }
        let node = Mutex::new(Some(node));
        Some(ResourceArc::new(Self { node }))
    }

    /// Counts a message to the node of `dest`; `None` if there is no room. Never blocks.
    pub(crate) fn try_enter(dest: &ErlangTerm) -> Option<ResourceArc<Self>> {
        let node = dest.with(node_of);
        let has_room = count(&node);
        let node = Mutex::new(Some(node));
        has_room.then(|| ResourceArc::new(Self { node }))
    }

    /// Ends the count of the message: it is sent or lost. Idempotent.
    pub(crate) fn leave(&self) {
        let mut node = lock(&self.node);
        let Some(node) = node.take() else { return };
        let mut waiting = waiting();
        if let Some(count) = waiting.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&node);
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Counts a message to the node; `false` if `CAPACITY` messages wait for it.
fn count(node: &[u8]) -> bool {
    let mut waiting = waiting();
    let count = waiting.entry(node.to_vec()).or_default();
    let has_room = *count < CAPACITY;
    *count += usize::from(has_room);
    has_room
}

/// Waits until a message can be counted, and counts it; `false` after `PATIENCE`, or if the job
/// must stop. Called detached.
fn wait_for_room(node: &[u8], host: &dyn Host) -> bool {
    let end = Instant::now() + PATIENCE;
    while !host.must_stop() && Instant::now() < end {
        thread::sleep(PAUSE);
        if count(node) {
            return true;
        }
    }
    false
}

/// Returns the key by which messages are counted: the node of a pid or of `{Name, Node}`, in the
/// external term format; an empty one for all other terms.
fn node_of(dest: Term<'_>) -> Vec<u8> {
    if let Ok((_name, node)) = dest.decode::<(Term<'_>, Term<'_>)>() {
        return node
            .to_binary()
            .as_slice()
            .get(1..)
            .unwrap_or_default()
            .to_vec();
    }
    let external = dest.encode(dest.get_env()).to_binary();
    match external.as_slice() {
        [_, NEW_PID, rest @ ..] if rest.len() > PID_NUMBERS => {
            rest[..rest.len() - PID_NUMBERS].to_vec()
        }
        _ => Vec::new(),
    }
}

fn waiting() -> MutexGuard<'static, BTreeMap<Vec<u8>, usize>> {
    lock(&VM.callbacks.outgoing)
}
