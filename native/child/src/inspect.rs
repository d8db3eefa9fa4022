//! Answers the VM's requests for the stacks of the code, and for profiles. The control thread passes them to
//! the engine's inspector, which looks at the main thread and sends what it has found.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use py_codec::frame::{FrameWriter, Message};
use py_codec::protocol::from_child;
use py_engine::inspect::{self, Finish, Frame, Sample, View};

use crate::child::Child;
use crate::host::ChildHost;

/// Sends the stacks of the main thread and of its tasks. Called by the control thread. Sends nothing if too
/// many requests wait for the GIL: the VM does not wait for the answer.
pub(crate) fn stacks(child: &'static Child, number: u64) {
    let look = move |view: &View<'_>| {
        let frame = found(child, view, number);
        let send = move || send(child, &frame);
        Box::new(send) as Finish
    };
    let _: io::Result<()> = inspect::look(Box::new(look));
}

/// Builds the frame. Called by the inspector, attached.
fn found(child: &'static Child, view: &View<'_>, number: u64) -> Message {
    let tasks = view.tasks(&child.thread).into_iter();
    let tasks = tasks.filter_map(|(host, frames)| {
        let job = ChildHost::of(&*host)?.job.as_ref()?;
        Some((job.id, frames))
    });
    let tasks: Vec<_> = tasks.collect();
    let mut frame = FrameWriter::new(from_child::STACKS);
    frame.word(number);
    add(&mut frame, &view.stack(&child.thread));
    frame.word(tasks.len() as u64);
    for (job, frames) in tasks {
        frame.word(job);
        add(&mut frame, &frames);
    }
    frame.finish()
}

fn add(frame: &mut FrameWriter<'_>, frames: &[Frame]) {
    frame.word(frames.len() as u64);
    for Frame {
        file,
        line,
        function,
    } in frames
    {
        frame.bytes(file.as_bytes()).word((*line).into());
        frame.bytes(function.as_bytes());
    }
}

/// Samples the code of a lease, and sends the profile. Called by the control thread.
pub(crate) fn profile(child: &'static Child, number: u64, lease: u64, milliseconds: u64) {
    let target = move || match child.lease.load(Ordering::SeqCst).cmp(&lease) {
        Equal if child.jobs.is_busy() => Sample::Thread(Arc::clone(&child.thread)),
        // No job of the lease has come, or none runs.
        Less | Equal => Sample::Idle,
        Greater => Sample::Ended,
    };
    let finish = move |folded: String| send_profile(child, number, &folded);
    let time = Duration::from_millis(milliseconds);
    if inspect::profile(time, target, finish).is_err() {
        send_profile(child, number, "");
    }
}

fn send_profile(child: &Child, number: u64, folded: &str) {
    let mut frame = FrameWriter::new(from_child::PROFILED);
    frame.word(number).rest(folded.as_bytes());
    send(child, &frame.finish());
}

fn send(child: &Child, frame: &Message) {
    // Fails if the VM has gone: the process is about to end.
    let _: io::Result<()> = child.connection.send(frame);
}
