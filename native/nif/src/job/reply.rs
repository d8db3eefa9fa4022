//! The only room that sends. Runs on threads of our own and of Python's: a send from a scheduler
//! thread would be lost.

use rustler::sys::{self, ErlNifTerm};
use rustler::{Encoder, Env, LocalPid, OwnedEnv};
use std::ptr;

use super::Job;
use super::ticket::Completion;
use crate::convert::Answer;
use crate::error::Error;

/// Where a worker builds its messages. One environment, cleared after each.
pub(crate) struct ReplyBuffer {
    env: OwnedEnv,
}

/// A message that stands in the buffer, not sent yet.
pub(crate) struct BuiltMessage(ErlNifTerm);

impl ReplyBuffer {
    pub(crate) fn new() -> Self {
        let env = OwnedEnv::new();
        Self { env }
    }

    /// Writes the message that ends `job`, unless that is for later.
    pub(crate) fn write(
        &mut self,
        job: &Job,
        result: impl for<'a> FnOnce(Env<'a>) -> Result<Answer<'a>, Error>,
    ) -> Option<BuiltMessage> {
        let written = self.env.run(|env| {
            let answer = result(env)?;
            if answer.is_deferred {
                return Ok(None);
            }
            let answer = answer.map(|term| job.message(env, term));
            Ok(Some((
                BuiltMessage(answer.term.as_c_arg()),
                answer.scattered,
            )))
        });
        match written {
            Ok(None) => None,
            Ok(Some((message, false))) => Some(message),
            Ok(Some((message, true))) => Some(self.rewrite(&message)),
            Err(error) => Some(self.fail(job, &error)),
        }
    }

    fn fail(&mut self, job: &Job, error: &Error) -> BuiltMessage {
        // What was converted before it failed would go to the caller, as garbage.
        self.env.clear();
        self.env
            .run(|env| BuiltMessage(job.failure(env, error).as_c_arg()))
    }

    /// A copy of the message in an environment that holds nothing else: a send hands the whole of
    /// an environment to the receiver.
    fn rewrite(&mut self, BuiltMessage(term): &BuiltMessage) -> BuiltMessage {
        let fresh = OwnedEnv::new();
        // SAFETY: the term lives in `self.env` until that is replaced below.
        let copy = fresh.run(|env| unsafe { sys::enif_make_copy(env.as_c_arg(), *term) });
        self.env = fresh;
        BuiltMessage(copy)
    }

    /// Sends the reply, unless the caller has given up; empties the buffer either way.
    pub(crate) fn send_reply(&mut self, job: &Job, message: BuiltMessage) {
        match job.ticket.complete() {
            Completion::Reply => _ = self.send(&job.caller, message),
            Completion::Interrupted => {
                // What the code has brought in spite of that is lost.
                if let Some(demand) = job.demand() {
                    demand.fail();
                }
                let message = self.fail(job, &Error::Interrupted);
                self.send(&job.caller, message);
            }
            Completion::Early => self.env.clear(),
            Completion::Nothing => self.env.clear(),
        }
        job.settle();
    }

    /// Tells the caller of a job that was interrupted, before its code has stopped.
    pub(crate) fn interrupt(&mut self, job: &Job) {
        if job.ticket.reply_early() {
            self.send_refusal(job, &Error::Interrupted);
            // `stream_close` waits for the message, not for the code.
            if let Some(demand) = job.demand() {
                demand.settle();
            }
        }
    }

    /// Ends `job`, which did not come to its end.
    pub(crate) fn refuse(&mut self, job: &Job, error: Error) {
        self.env.clear();
        let owes = matches!(
            job.ticket.complete(),
            Completion::Reply | Completion::Interrupted
        );
        if owes {
            self.send_refusal(job, &error);
        }
        job.settle();
    }

    fn send_refusal(&mut self, job: &Job, error: &Error) {
        if let Some(demand) = job.demand() {
            demand.fail();
        }
        let write = |env| BuiltMessage(job.failure(env, error).as_c_arg());
        let message = self.env.run(write);
        self.send(&job.caller, message);
    }

    /// Sends what `write` makes; `false` if there is no such process.
    pub(crate) fn send_to(
        &mut self,
        to: &LocalPid,
        write: impl for<'a> FnOnce(Env<'a>) -> Result<Answer<'a>, Error>,
    ) -> Result<bool, Error> {
        let written = self.env.run(|env| {
            let answer = write(env)?;
            Ok((BuiltMessage(answer.term.as_c_arg()), answer.scattered))
        });
        match written {
            Ok((message, false)) => Ok(self.send(to, message)),
            Ok((message, true)) => {
                let message = self.rewrite(&message);
                Ok(self.send(to, message))
            }
            Err(error) => {
                self.env.clear();
                Err(error)
            }
        }
    }

    /// Tells `py_pool` or `py_callback` something.
    pub(crate) fn notify(&mut self, to: &LocalPid, message: impl Encoder) {
        self.env.clear();
        let message = self
            .env
            .run(|env| BuiltMessage(message.encode(env).as_c_arg()));
        self.send(to, message);
    }

    pub(crate) fn clear(&mut self) {
        self.env.clear();
    }

    /// `false` if there is no such process, which is no error here.
    fn send(&mut self, to: &LocalPid, BuiltMessage(term): BuiltMessage) -> bool {
        let env = self.env.run(|env| env.as_c_arg());
        // SAFETY: not a scheduler thread, so no caller environment; `term` was made in `env`,
        // which the send takes the terms of and leaves empty. A dead receiver is no error.
        let sent = unsafe { sys::enif_send(ptr::null_mut(), to.as_c_arg(), env, term) };
        self.env.clear();
        sent != 0
    }
}
