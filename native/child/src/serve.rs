//! The loop of the main thread: reads frames, runs jobs in the namespace of the lease or in a new one,
//! runs the event loop while tasks are in flight, and cleans up.
//!
//! Attached but when it waits for a frame. States: no lease, or in a lease with its namespace; within
//! both, a job at a time, and jobs in the middle of it.

use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use py_codec::frame::{Fields, FrameWriter};
use py_codec::protocol::{from_child, status, to_child};
use py_engine::asyncio;
use py_engine::call_stack::with_call;
use py_engine::erlang::output;
use py_engine::exception::Exception;
use py_engine::host::Host;
use py_engine::interrupt::{Interrupted, LoopMask, start_interrupter};
use py_engine::lock::lock;
use py_engine::namespace::{Namespace, child_threads, conversion};
use py_engine::python::garbage::FullCollections;
use py_engine::{released, start};

use crate::child::Child;
use crate::connection::Connection;
use crate::control;
use crate::execute;
use crate::host::{ChildHost, cancel_unwanted};
use crate::incoming::{Incoming, incoming, send};
use crate::payload::Payload;
use crate::receive::{exit, has_frames, next, pass_on};
use crate::settings::Settings;
use crate::values::plain_reply;

/// Serves the VM until it has gone, or ends the child.
pub(crate) fn run(
    py: Python<'_>,
    connection: Connection,
    settings: &Settings,
    prepare: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let child = Child::open(connection, settings.grace, execute::run_nested)?;
    start::adopt(py, ChildHost::new(child, None))?;
    conversion::set_none(settings.none()?);
    output::set_inherits(settings.inherits_output);
    start_interrupter(|| {
        Child::find()
            .map(|c| Arc::clone(&c.thread))
            .into_iter()
            .collect()
    })?;
    child.thread.set_base(py);
    control::start(child)?;
    child_threads::listen();
    child.thread.begin();
    let prepared = prepare.call0();
    child.thread.end(py.into());
    let failure = match prepared {
        Ok(text) => text.extract::<Option<String>>()?,
        Err(error) => Some(describe(py, &error)),
    };
    if let Some(text) = failure {
        let mut frame = FrameWriter::new(from_child::FAILED);
        frame.rest(text.as_bytes());
        send(py, child, &frame.finish());
        exit(1);
    }
    send(py, child, &FrameWriter::new(from_child::READY).finish());
    let mut server = Server {
        py,
        child,
        lease: None,
        spare: None,
        collections: FullCollections::default(),
    };
    loop {
        // A panic outside of a job ends nothing but the frame that has caused it.
        let _: Result<(), _> = catch_unwind(AssertUnwindSafe(|| server.step()));
    }
}

/// Returns the text of an exception.
fn describe(py: Python<'_>, error: &PyErr) -> String {
    match Exception::capture(py, error) {
        Ok(exception) => {
            let place = exception.frames.last();
            let place = place.map(|frame| format!(" ({}, line {})", frame.file, frame.line));
            let place = place.unwrap_or_default();
            format!("{}: {}{place}", exception.class, exception.message)
        }
        Err(_) => "interrupted".to_owned(),
    }
}

struct Server<'py> {
    py: Python<'py>,
    child: &'static Child,
    /// The namespace of the lease.
    lease: Option<Rc<Namespace<'py>>>,
    /// The namespace of the last job without a lease, if that has left nothing in it.
    spare: Option<Rc<Namespace<'py>>>,
    collections: FullCollections,
}

impl<'py> Server<'py> {
    /// Drops what Erlang has dropped, and handles one frame; or runs the event loop if there is none.
    fn step(&mut self) {
        let (py, child) = (self.py, self.child);
        self.tidy();
        let later = lock(&child.later).pop_front();
        let frame = if later.is_some() {
            later
        } else if self.child.jobs.has_tasks() {
            next(py, child, None)
        } else {
            next(
                py,
                child,
                Some(&|| child.has_released.load(Ordering::SeqCst)),
            )
        };
        match frame {
            Some((kind, payload)) => {
                _ = self.handle(kind, payload);
                if child.jobs.has_tasks() {
                    // Run once after each job, so that tasks go on while jobs keep coming.
                    self.run_loop(true);
                }
            }
            None if child.jobs.has_tasks() => self.run_loop(false),
            None => {}
        }
    }

    fn handle(&mut self, kind: u8, payload: Payload) -> Option<()> {
        // A task may wait for a call, in the middle of which a job shall run: in the loop, later.
        let (kind, payload) = pass_on(self.child, kind, payload)?;
        match kind {
            to_child::JOB => self.run_job(&incoming(self.py, self.child, &payload)?),
            to_child::CLOSE => {
                let stream = Fields::new(&payload).word()?;
                if let Some(namespace) = self.lease.clone() {
                    self.clean(|| asyncio::close(&namespace, stream));
                }
                send(
                    self.py,
                    self.child,
                    &FrameWriter::new(from_child::CLOSED).finish(),
                );
            }
            to_child::END_LEASE => self.end_lease(),
            to_child::EXIT => self.exit(),
            _ => {}
        }
        Some(())
    }

    fn run_job(&mut self, incoming: &Incoming<'_>) {
        let (py, child) = (self.py, self.child);
        child.thread.begin();
        if incoming.lease == 0 {
            return self.run_unbound(incoming);
        }
        child.lease.store(incoming.lease, Ordering::SeqCst);
        let namespace = match self.lease.take() {
            Some(namespace) => Ok(namespace),
            None => self.spare.take().map_or_else(|| Namespace::enter(py), Ok),
        };
        match namespace {
            Ok(namespace) => {
                execute::run(py, child, &namespace, incoming);
                self.lease = Some(namespace);
            }
            Err(_) => send(py, child, &plain_reply(incoming.id, status::CRASHED)),
        }
    }

    /// Runs a job without a lease, in a namespace of its own.
    fn run_unbound(&mut self, incoming: &Incoming<'_>) {
        let (py, child) = (self.py, self.child);
        // Functions that statements define refer to their namespace, and only a garbage collection of
        // their generation frees both: so a job of statements gets a namespace that is as young.
        let reused = self.spare.take().filter(|_| !incoming.is_exec());
        let Ok(namespace) = reused.map_or_else(|| Namespace::enter(py), Ok) else {
            return send(py, child, &plain_reply(incoming.id, status::CRASHED));
        };
        execute::run(py, child, &namespace, incoming);
        if namespace.is_new() {
            self.spare = Some(namespace);
            return;
        }
        let names = self.clean_alone(|| namespace.leave_unbound());
        if !names.is_empty() {
            self.send_names(from_child::THREADS_LEFT, &names);
        }
    }

    /// Ends the lease: closes its iterators, and empties its namespace.
    fn end_lease(&mut self) {
        self.child.lease.fetch_add(1, Ordering::SeqCst);
        let mut names = Vec::new();
        if let Some(namespace) = self.lease.take() {
            names = self.clean(|| {
                asyncio::close_all(&namespace);
                namespace.leave_empty()
            });
        }
        self.send_names(from_child::LEASE_ENDED, &names);
    }

    /// Sends the names of threads that go on.
    fn send_names(&self, kind: u8, names: &[String]) {
        let mut frame = FrameWriter::new(kind);
        frame.word(names.len() as u64);
        for name in names {
            frame.bytes(name.as_bytes());
        }
        send(self.py, self.child, &frame.finish());
    }

    /// Runs `body`, which cleans up, and which the VM may interrupt.
    fn clean<T>(&self, body: impl FnOnce() -> T) -> T {
        self.child.thread.begin();
        self.child.jobs.set_cleaning(true);
        let done = body();
        self.child.jobs.set_cleaning(false);
        self.child.thread.end(self.py.into());
        done
    }

    /// Runs `body`, which cleans up, and which the VM does not know of: the control thread interrupts what takes
    /// longer than the grace, and ends the process after twice the grace.
    fn clean_alone<T>(&self, body: impl FnOnce() -> T) -> T {
        self.child.cleaning.arm(self.child.jobs.grace);
        let done = self.clean(body);
        self.child.cleaning.disarm();
        done
    }

    /// Runs the event loop of the lease until it is woken for other work; with `once`, only the
    /// callbacks that are due. A loop that was hit by an exception has its tasks cancelled and refused.
    fn run_loop(&mut self, once: bool) {
        let (py, child) = (self.py, self.child);
        let Some(namespace) = self.lease.clone() else {
            return;
        };
        child.thread.begin();
        let host: Arc<dyn Host> = ChildHost::new(child, None);
        let run_tasks = || {
            // An interrupt here would end all tasks, instead of the one that is stuck.
            let _mask = LoopMask::new(py);
            cancel_unwanted(py, child);
            if !once && has_frames(child) {
                return true;
            }
            let Err(error) = asyncio::run(py, once) else {
                return true;
            };
            if !error.is_instance_of::<Interrupted>(py) {
                error.write_unraisable(py, None);
            }
            asyncio::cancel_all(py);
            false
        };
        let (is_intact, _) = with_call(&host, &namespace, || namespace.run(run_tasks));
        child.thread.end(py.into());
        if !is_intact {
            // The exception may have hit a callback that the loop was about to run, so the callers of
            // its tasks might wait for ever.
            for job in child.jobs.take_tasks() {
                send(py, child, &plain_reply(job.id, status::INTERRUPTED));
            }
        }
    }

    /// Drops the objects that Erlang has dropped, and collects garbage that a lease has left.
    fn tidy(&mut self) {
        self.child.has_released.store(false, Ordering::SeqCst);
        while let Some(object) = released::take() {
            self.clean_alone(|| drop(object));
        }
        self.child.thread.absorb(self.py.into());
        if self.collections.is_due() {
            let py = self.py;
            let mut collections = std::mem::take(&mut self.collections);
            self.clean_alone(|| collections.run(py));
            self.collections = collections;
        }
    }

    /// Ends the process as the VM has asked. Python is never finalized.
    fn exit(&self) -> ! {
        for name in ["stdout", "stderr"] {
            let stream = self.py.import("sys").and_then(|sys| sys.getattr(name));
            let _: PyResult<_> = stream.and_then(|stream| stream.call_method0("flush"));
        }
        exit(0)
    }
}
