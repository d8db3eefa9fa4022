//! The control thread: reads `control`, and never attaches, so that no Python code can hold it up. It ends
//! the process when the VM has gone, makes code stop, and passes the ends of calls to other threads of
//! Python code than the main one.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::thread;

use py_codec::frame::{Fields, FrameWriter, Inbox};
use py_codec::memory::receive;
use py_codec::protocol::{from_child, to_child};
use py_engine::host::Wake;
use py_engine::lock::lock;
use py_engine::released::release;

use crate::child::Child;
use crate::connection::poll;
use crate::inspect;
use crate::payload::Payload;
use crate::receive::{exit, pass_on};

/// Milliseconds between two attempts to stop code.
const TICK: i32 = 20;

/// Starts the thread. Called once, by the main thread.
pub(crate) fn start(child: &'static Child) -> io::Result<()> {
    let builder = thread::Builder::new().name("py_control".to_owned());
    builder.spawn(move || run(child)).map(|_detached| ())
}

fn run(child: &'static Child) {
    let (connection, mut inbox) = (&child.connection, Inbox::default());
    let mut is_stopping = false;
    loop {
        // `data` is watched while the main thread is in an event loop, which is woken by it once.
        let is_watching = lock(&child.loop_waker).is_some();
        let data = if is_watching {
            connection.data.as_raw_fd()
        } else {
            -1
        };
        let (control, wake) = (&connection.control, &connection.control_thread);
        let timeout = if is_stopping { TICK } else { -1 };
        let timer = child.cleaning.as_raw_fd();
        let [has_control, is_woken, has_data, is_over] = poll(
            [control.as_raw_fd(), wake.as_raw_fd(), data, timer],
            timeout,
        );
        if is_woken {
            wake.reset();
        }
        if has_data && let Some(waker) = lock(&child.loop_waker).take() {
            waker.wake();
        }
        if has_control {
            read(child, &mut inbox);
        }
        if is_over && child.cleaning.is_over() {
            child.jobs.interrupt(0);
        }
        is_stopping = child.jobs.stop(&child.thread);
        if is_stopping && child.jobs.is_cleaning_stuck() {
            // SAFETY: ends this process, as the VM would.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }
}

/// Reads what has come, and handles each whole frame.
fn read(child: &'static Child, inbox: &mut Inbox) {
    match inbox.receive(|room| receive(child.connection.control.as_fd(), room)) {
        Ok(0) => exit(0),
        Ok(_) => {}
        Err(error) => {
            let is_none = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            if !is_none {
                exit(0);
            }
            return;
        }
    }
    loop {
        match inbox.next_frame() {
            Ok(Some((kind, payload))) => _ = handle(child, kind, Payload::keep(payload)),
            Ok(None) => return,
            // The VM sends no such frame.
            Err(_) => exit(1),
        }
    }
}

fn handle(child: &'static Child, kind: u8, payload: Payload) -> Option<()> {
    let mut fields = Fields::new(&payload);
    match kind {
        to_child::INTERRUPT => {
            child.jobs.interrupt(fields.word()?);
            if child.thread.is_importing() {
                let mut frame = FrameWriter::new(from_child::IMPORTING);
                frame.byte(1);
                // Fails if the VM has gone: the next read says so.
                let _: io::Result<()> = child.connection.send(&frame.finish());
            }
        }
        to_child::RELEASE => {
            if let Some(object) = child.objects.take(fields.word()?) {
                release(object);
                if !child.has_released.swap(true, Ordering::SeqCst) {
                    child.connection.main.wake();
                }
            }
        }
        to_child::INSPECT => inspect::stacks(child, fields.word()?),
        to_child::PROFILE => {
            let (number, lease) = (fields.word()?, fields.word()?);
            inspect::profile(child, number, lease, fields.word()?);
        }
        to_child::DOWN => {
            let id = fields.word()?;
            lock(&child.watches).insert(id, Some(fields.rest().to_vec()));
        }
        _ => _ = pass_on(child, kind, payload),
    }
    Some(())
}
