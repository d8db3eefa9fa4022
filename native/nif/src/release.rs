//! Releases the Python objects that Erlang no longer refers to.
//!
//! A destructor runs on a scheduler thread and may not attach, so it leaves the object here. The
//! releaser, a thread of its own, drops them one by one: their finalizers run there, may do
//! anything, and are watched like those of a context. The releaser also collects garbage, see
//! [`crate::garbage`], and takes an exception now and then, see [`crate::interrupt`].

use crossbeam_channel::{Receiver, Sender, bounded};
use once_cell::sync::Lazy;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use crate::fatal::SignalStack;
use crate::garbage::FullCollections;
use crate::slot::{Role, Slot, Task};
use crate::station::Station;
use crate::thread::STACK_SIZE;
use crate::watchdog;

/// Locked for the length of a push or a pop. Bounded by the objects there are.
static RELEASED: Mutex<VecDeque<Py<PyAny>>> = Mutex::new(VecDeque::new());
/// One place, since one ring serves every object before it.
static BELL: Lazy<(Sender<()>, Receiver<()>)> = Lazy::new(|| bounded(1));

/// Runs anywhere; never blocks or attaches.
pub(crate) fn release(object: Py<PyAny>) {
    released().push_back(object);
    ring();
}

/// There is something to do. Never blocks.
pub(crate) fn ring() {
    // Full: the releaser is about to come.
    let _: Result<(), _> = BELL.0.try_send(());
}

/// Starts a releaser, also in the place of one that is abandoned.
pub(crate) fn spawn() -> io::Result<()> {
    let builder = thread::Builder::new()
        .name("py_releaser".to_owned())
        .stack_size(STACK_SIZE);
    builder.spawn(run).map(|_detached| ())
}

fn run() {
    let _stack = SignalStack::install();
    let slot = watchdog::register(Role::Releaser);
    // Its caller is a finalizer that panicked; what it left is released by the successor.
    Station::adopt(&slot);
    let ended = catch_unwind(AssertUnwindSafe(|| Python::attach(|py| serve(py, &slot))));
    if watchdog::unregister(&slot) && ended.is_err() {
        // Without a thread for it objects are kept: there is no memory for one.
        let _: io::Result<()> = spawn();
    }
}

/// Until the thread is abandoned.
fn serve(py: Python<'_>, slot: &Slot) {
    let mut collections = FullCollections::new();
    loop {
        while let Some(object) = next() {
            slot.begin(Task::Cleaning(None));
            drop(object);
            if !slot.end(py.into()) {
                return;
            }
        }
        slot.begin(Task::Cleaning(None));
        slot.absorb(py.into());
        if collections.is_due() {
            collections.run(py);
        }
        if !slot.end(py.into()) {
            return;
        }
        py.detach(|| collections.wait(&BELL.1));
    }
}

fn next() -> Option<Py<PyAny>> {
    released().pop_front()
}

fn released() -> MutexGuard<'static, VecDeque<Py<PyAny>>> {
    // A list is whole whatever panicked.
    RELEASED.lock().unwrap_or_else(PoisonError::into_inner)
}
