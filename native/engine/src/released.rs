//! What is left for the releaser: objects that Erlang refers to no longer, and two requests.
//!
//! Written on any thread, also in destructors: nothing here blocks, attaches or runs Python code.
//! The releaser, a thread of the host, takes the objects and drops them, attached.

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
    /// Locked for the length of a push or a pop. Bounded by the number of objects there are.
    objects: Mutex<VecDeque<Py<PyAny>>>,
    /// A context has ended that may have left old objects in reference cycles.
    may_have_garbage: AtomicBool,
    /// COMPAT(3.12): an exception was withdrawn, and the interpreter's one flag may still be set.
    has_stale_flag: AtomicBool,
    notify: Notify,
}

/// Leaves `object` for the releaser, on whose thread its finalizer runs.
pub fn release(object: Py<PyAny>) {
    lock(&RELEASED.objects).push_back(object);
    RELEASED.notify.notify();
}

/// Takes one object, for the releaser.
pub fn take() -> Option<Py<PyAny>> {
    lock(&RELEASED.objects).pop_front()
}

/// Blocks, detached, until there is something for the releaser, or until `deadline`.
pub fn wait(deadline: Option<Instant>) {
    RELEASED.notify.wait(deadline);
}

pub(crate) fn request_collection() {
    if !RELEASED.may_have_garbage.swap(true, Ordering::SeqCst) {
        RELEASED.notify.notify();
    }
}

pub(crate) fn wants_collection() -> bool {
    RELEASED.may_have_garbage.load(Ordering::SeqCst)
}

pub(crate) fn begin_collection() {
    RELEASED.may_have_garbage.store(false, Ordering::SeqCst);
}

pub(crate) fn note_stale_flag() {
    RELEASED.has_stale_flag.store(true, Ordering::SeqCst);
    RELEASED.notify.notify();
}

pub(crate) fn take_stale_flag() -> bool {
    RELEASED.has_stale_flag.swap(false, Ordering::SeqCst)
}
