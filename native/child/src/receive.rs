//! Frames of the VM, and what becomes of those that come in the middle of a job: the end of a call, and
//! a job that runs in the middle of one, go to the call; the others wait for the end of the job.
//!
//! `next` is called by the main thread, attached; it blocks detached. `pass_on` is called by the main
//! thread and by the control thread, and never blocks.

use pyo3::prelude::*;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use py_codec::frame::Fields;
use py_codec::memory::receive;
use py_codec::protocol::{status, to_child};
use py_engine::host::callback::{Callback, Ended, NestedJob};
use py_engine::lock::lock;

use crate::child::Child;
use crate::connection::poll;
use crate::payload::Payload;
use crate::questions::End;
use crate::values::plain_reply;

/// Returns the next frame of `data`. `None` if there is none: at once if `until` is `None`, else after
/// `until` has returned `true`, which is called after each wake of the main thread.
pub(crate) fn next(
    py: Python<'_>,
    child: &Child,
    until: Option<&(dyn Fn() -> bool + Send + Sync)>,
) -> Option<(u8, Payload)> {
    let (data, main) = (&child.connection.data, &child.connection.main);
    loop {
        let mut inbox = lock(&child.inbox);
        match inbox.next_frame() {
            Ok(Some((kind, payload))) => return Some((kind, Payload::keep(payload))),
            Ok(None) => {}
            // The VM sends no such frame.
            Err(_) => exit(1),
        }
        let come = inbox.receive(|room| receive(data.as_fd(), room));
        drop(inbox);
        match come {
            Ok(0) => exit(0),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let until = until?;
                if until() {
                    return None;
                }
                let wait = || poll([data.as_raw_fd(), main.as_raw_fd()], -1);
                let [_, is_woken] = py.detach(wait);
                if is_woken {
                    main.reset();
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => exit(0),
        }
    }
}

/// Ends the process at once: the VM has gone, or has said so.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process without any handler.
    unsafe { libc::_exit(code) }
}

/// Whether a frame has come that was not taken.
pub(crate) fn has_frames(child: &Child) -> bool {
    !lock(&child.later).is_empty() || !lock(&child.inbox).is_empty()
}

/// Takes the frames that have come in the middle of a job. Called by the main thread.
pub(crate) fn drain(py: Python<'_>, child: &'static Child) {
    while let Some((kind, payload)) = next(py, child, None) {
        take(child, kind, payload);
    }
}

/// Handles a frame that has come in the middle of a job. Called by the main thread.
pub(crate) fn take(child: &'static Child, kind: u8, payload: Payload) {
    if let Some((kind, payload)) = pass_on(child, kind, payload) {
        lock(&child.later).push_back((kind, payload));
    }
}

/// Passes the frame to the call that it is for; returns any other frame.
pub(crate) fn pass_on(child: &'static Child, kind: u8, payload: Payload) -> Option<(u8, Payload)> {
    let mut fields = Fields::new(&payload);
    if kind == to_child::DOWN {
        let id = fields.word()?;
        // Only a monitor that is still there: the control thread has the same frame.
        if let Some(reason) = lock(&child.watches).get_mut(&id) {
            *reason = Some(fields.rest().to_vec());
        }
        return None;
    }
    if kind == to_child::ANSWER {
        let (id, outcome) = (fields.word()?, fields.byte()?);
        let callback = lock(&child.calls).remove(&id);
        if let Some(callback) = callback {
            callback.answer(Box::new(End::new(outcome, payload)));
        }
        return None;
    }
    if kind != to_child::JOB {
        return Some((kind, payload));
    }
    let (job, _lease, call) = (fields.word()?, fields.word()?, fields.word()?);
    if call == 0 {
        return Some((kind, payload));
    }
    let callback = lock(&child.calls).get(&call).cloned();
    submit(
        child,
        callback,
        Nested {
            child,
            job,
            payload,
        },
    );
    None
}

fn submit(child: &Child, callback: Option<Arc<Callback>>, nested: Nested) {
    let job = nested.job;
    let is_accepted = callback.is_some_and(|callback| callback.submit(Arc::new(nested)).is_ok());
    if !is_accepted {
        refuse(child, job);
    }
}

fn refuse(child: &Child, job: u64) {
    // Fails if the VM has gone: the process is about to end.
    let _: Result<(), _> = child.connection.send(&plain_reply(job, status::REFUSED));
}

/// A job in the middle of a call.
struct Nested {
    child: &'static Child,
    job: u64,
    payload: Payload,
}

impl NestedJob for Nested {
    fn run(self: Arc<Self>, py: Python<'_>) -> Result<(), Ended> {
        (self.child.run_nested)(py, self.child, &self.payload);
        Ok(())
    }

    fn refuse(&self) {
        refuse(self.child, self.job);
    }

    /// Not called: the VM does not take a job back that it has sent.
    fn withdrawn(&self) {}
}
