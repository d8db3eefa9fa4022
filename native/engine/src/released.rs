//! The queue of the releaser: objects that Erlang refers to no longer, and two requests.
//!
//! Any thread writes to it, also in destructors: no function here but `wait` blocks, and none attaches
//! or runs Python code. The releaser, a thread of the host, takes the objects and drops them, attached.

use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::lock::lock;
use crate::notify::Notify;

static RELEASED: Released = Released {
    objects: Mutex::new(VecDeque::new()),
    may_have_garbage: AtomicBool::new(false),
    has_stale_flag: AtomicBool::new(false),
    notify: Notify::new(),
};

struct Released {
    /// Locked for the length of a push or a pop. No longer than the number of objects that Erlang
    /// held.
    objects: Mutex<VecDeque<Py<PyAny>>>,
    /// Set if a context has ended that may have left old objects in reference cycles: the releaser
    /// runs a full collection.
    may_have_garbage: AtomicBool,
    /// COMPAT(3.12): set if an exception was withdrawn, so that the interpreter's one flag may still be
    /// set: the releaser clears that.
    has_stale_flag: AtomicBool,
    notify: Notify,
}

/// Queues `object` for the releaser, on whose thread its finalizer runs. Called on any thread, attached
/// or not.
pub fn release(object: Py<PyAny>) {
    lock(&RELEASED.objects).push_back(object);
    RELEASED.notify.notify();
}

/// Takes the oldest object. Called by the releaser.
pub fn take() -> Option<Py<PyAny>> {
    lock(&RELEASED.objects).pop_front()
}

/// Blocks until an object or a request is queued, or until `deadline`. Called by the releaser,
/// detached.
pub fn wait(deadline: Option<Instant>) {
    RELEASED.notify.wait(deadline);
}

/// Requests a full collection of garbage. Called by a worker at the end of a context.
pub(crate) fn request_collection() {
    if !RELEASED.may_have_garbage.swap(true, Ordering::SeqCst) {
        RELEASED.notify.notify();
    }
}

/// Whether a full collection was requested, and has not begun.
pub(crate) fn wants_collection() -> bool {
    RELEASED.may_have_garbage.load(Ordering::SeqCst)
}

/// Takes the request for a collection. Called by the releaser before the collection, so that a
/// request that is made meanwhile counts.
pub(crate) fn begin_collection() {
    RELEASED.may_have_garbage.store(false, Ordering::SeqCst);
}

/// COMPAT(3.12): requests that the releaser clears the interpreter's flag of pending exceptions.
pub(crate) fn request_flag_clearing() {
    RELEASED.has_stale_flag.store(true, Ordering::SeqCst);
    RELEASED.notify.notify();
}

/// COMPAT(3.12): takes that request; `true` if there was one. Called by the releaser.
pub(crate) fn take_flag_clearing() -> bool {
    RELEASED.has_stale_flag.swap(false, Ordering::SeqCst)
}
