//! A job as a frame. Called on the scheduler thread that submits, or on the thread of the children.

use rustler::{Binary, Encoder, LocalPid, OwnedEnv, ResourceArc, Term};
use std::any::Any;
use std::sync::atomic::Ordering;

use py_codec::frame::{FrameWriter, Message};
use py_codec::protocol::{request, to_child};
use py_engine::python::code_cache::Mode;

use super::terms;
use crate::error::{Error, Why};
use crate::job::{Job, Request, is_empty};
use crate::stream::{Stream, StreamDemand};
use crate::vm::VM;

/// The place of a job in the child.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The id of the worker, of whose objects the job may have handles.
    pub(super) worker: u64,
    pub(super) job: u64,
    /// The id of the lease, or 0.
    pub(super) lease: u64,
    /// The call in the middle of which the job runs, or 0.
    pub(super) call: u64,
    /// How often a module was reloaded in the pool.
    pub(super) reloads: u64,
}

/// Returns the frame of a job.
pub(super) fn frame(job: &Job, place: Place) -> Result<Message, Error> {
    job.with_request(|request| {
        let mut frame = FrameWriter::new(to_child::JOB);
        frame.word(place.job).word(place.lease).word(place.call);
        frame.word(VM.callbacks.generation());
        frame.word(u64::from(VM.logging.load(Ordering::Relaxed)));
        frame.word(place.reloads);
        frame.bytes(&caller(job.caller));
        add(&mut frame, job, &request, place.worker)?;
        if frame.is_too_long() {
            return Err(Error::unconvertible(Why::TooLarge, "arguments"));
        }
        Ok(frame.finish())
    })
}

/// Returns the pid of the caller in the external term format.
fn caller(pid: LocalPid) -> Vec<u8> {
    OwnedEnv::new().run(|env| pid.encode(env).to_binary().to_vec())
}

fn add<'a>(
    frame: &mut FrameWriter<'a>,
    job: &Job,
    request: &Request<'a>,
    worker: u64,
) -> Result<(), Error> {
    match request {
        Request::Call {
            module,
            function,
            args,
            kwargs,
        } => {
            if module.is_ref() {
                frame.byte(request::CALL_METHOD);
                frame.field(|body| terms::encode(*module, worker, body))?;
            } else {
                frame.byte(request::CALL);
                frame.bytes(name(*module)?.as_bytes());
            }
            frame.bytes(name(*function)?.as_bytes());
            frame.field(|body| terms::encode(*args, worker, body))?;
            names(frame, *kwargs, worker)
        }
        Request::Run {
            mode,
            source,
            locals,
        } => {
            frame.byte(match mode {
                Mode::Eval => request::EVAL,
                Mode::Exec => request::EXEC,
                Mode::Block => request::BLOCK,
            });
            frame.bytes(source.as_bytes());
            names(frame, *locals, worker)
        }
        Request::Object { handle } => {
            frame.byte(request::OBJECT);
            frame.field(|body| terms::encode(*handle, worker, body))?;
            Ok(())
        }
        Request::InForm { form, job: inner } => {
            frame.byte(request::IN_FORM).byte(form.bits());
            let inner = Request::decode(*inner).map_err(|_| malformed())?;
            add(frame, job, &inner, worker)
        }
        Request::Open { stream, source } => {
            let stream: ResourceArc<Stream> = stream.decode().map_err(|_| malformed())?;
            frame.byte(request::OPEN).word(stream.id);
            add_source(frame, job, *source, worker)
        }
        Request::Next { count } => {
            let stream = stream_of(job).ok_or_else(malformed)?;
            frame
                .byte(request::NEXT)
                .word(stream.id)
                .word(*count as u64);
            Ok(())
        }
        Request::Collect { source } => {
            frame.byte(request::COLLECT);
            add_source(frame, job, *source, worker)
        }
        Request::Async { source } => {
            frame.byte(request::ASYNC);
            add_source(frame, job, *source, worker)
        }
        Request::Empty => {
            frame.byte(request::EMPTY);
            Ok(())
        }
    }
}

fn add_source<'a>(
    frame: &mut FrameWriter<'a>,
    job: &Job,
    source: Term<'a>,
    worker: u64,
) -> Result<(), Error> {
    let source = Request::source(source).map_err(|_| malformed())?;
    add(frame, job, &source, worker)
}

/// Adds a map with names as keys; nothing for an empty one.
fn names<'a>(frame: &mut FrameWriter<'a>, map: Term<'a>, worker: u64) -> Result<(), Error> {
    frame.field(|body| {
        if is_empty(map) {
            return Ok(());
        }
        terms::encode(map, worker, body)
    })?;
    Ok(())
}

fn name(term: Term<'_>) -> Result<String, Error> {
    if let Ok(atom) = term.atom_to_string() {
        return Ok(atom);
    }
    let binary = Binary::from_term(term).map_err(|_| malformed())?;
    String::from_utf8(binary.to_vec()).map_err(|_| malformed())
}

/// Returns the stream that a job is a demand of.
pub(super) fn stream_of(job: &Job) -> Option<&ResourceArc<Stream>> {
    let demand: &dyn Any = &**job.demand()?;
    demand.downcast_ref().map(|StreamDemand(stream)| stream)
}

/// Returns the error for a request that cannot be decoded. Unreachable: requests are checked before
/// they are accepted.
fn malformed() -> Error {
    Error::unconvertible(Why::NotUnicode, "job")
}
