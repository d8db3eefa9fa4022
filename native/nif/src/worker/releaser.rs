//! The releaser: a thread that drops the Python objects that Erlang no longer refers to.
//!
//! A destructor runs on a scheduler thread and may not attach, so it leaves the object to
//! [`py_engine::released`]. The releaser drops the objects one by one: their finalizers run on its
//! thread, may do anything, and are watched as cleaning is. The releaser also collects garbage, see
//! [`py_engine::python::garbage`], and absorbs exceptions that were withdrawn, see
//! [`py_engine::interrupt`]. It is attached for life and detaches to wait; it sends nothing.

use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, thread};

use py_engine::python::faulthandler::SignalStack;
use py_engine::python::garbage::FullCollections;
use py_engine::released;
use py_engine::start::STACK_SIZE;

use crate::host::Current;
use crate::watch::{Role, Task, WatchedThread, register, unregister};

/// Starts a releaser. Called when Python starts, by the watchdog for one that was abandoned, and by
/// a releaser that ends by a panic.
pub(crate) fn spawn() -> io::Result<()> {
    let builder = thread::Builder::new()
        .name("py_releaser".to_owned())
        .stack_size(STACK_SIZE);
    builder.spawn(run).map(|_detached| ())
}

fn run() {
    let _stack = SignalStack::install();
    let watched = register(Role::Releaser);
    let _current = Current::open(&watched, None);
    // A panic ends this releaser; its successor releases the objects that are left.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        Python::attach(|py| serve(py, &watched))
    }));
    // The thread ends: nothing may be raised in it from now on, nor may it be signalled.
    watched.leave();
    if unregister(&watched) && ended.is_err() {
        // Without memory for a thread the objects are kept.
        let _: io::Result<()> = spawn();
    }
}

/// Releases objects until the thread is abandoned.
fn serve(py: Python<'_>, watched: &WatchedThread) {
    let mut collections = FullCollections::default();
    loop {
        while let Some(object) = released::take() {
            watched.begin(Task::Cleaning(None));
            drop(object);
            if !watched.end(py.into()) {
                return;
            }
        }
        watched.begin(Task::Cleaning(None));
        watched.thread.absorb(py.into());
        if collections.is_due() {
            collections.run(py);
        }
        if !watched.end(py.into()) {
            return;
        }
        py.detach(|| released::wait(collections.deadline()));
    }
}
