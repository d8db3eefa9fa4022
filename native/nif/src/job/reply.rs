//! Builds and sends messages; no other module sends. Runs on workers, guests and the watchdog,
//! never on a scheduler thread: `enif_send` without an environment of the caller is allowed off
//! schedulers only. Nothing here blocks; only the closures that build a reply need the GIL.

use rustler::sys::{self, ErlNifTerm};
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};
use std::ptr;

use super::Job;
use super::ticket::Completion;
use crate::convert::Answer;
use crate::error::Error;

/// The buffer in which a thread builds its messages: one environment, cleared after each send.
pub(crate) struct ReplyBuffer {
    env: OwnedEnv,
}

/// A message in the buffer that is not sent yet.
pub(crate) struct BuiltMessage {
    term: ErlNifTerm,
    /// The message is a reply that says an error.
    is_error: bool,
}

impl BuiltMessage {
    fn of(term: Term<'_>) -> Self {
        Self {
            term: term.as_c_arg(),
            is_error: false,
        }
    }

    /// Says that the reply is an error.
    pub(crate) fn set_error(&mut self) {
        self.is_error = true;
    }
}

impl ReplyBuffer {
    pub(crate) fn new() -> Self {
        let env = OwnedEnv::new();
        Self { env }
    }

    /// Builds the message that ends `job`: the result, or its error. `None` if the answer is
    /// deferred: the task of the job replies.
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
            Ok(Some((BuiltMessage::of(answer.term), answer.has_garbage)))
        });
        match written {
            Ok(None) => None,
            Ok(Some((message, false))) => Some(message),
            Ok(Some((message, true))) => Some(self.rewrite(&message)),
            Err(error) => Some(self.fail(job, &error)),
        }
    }

    fn fail(&mut self, job: &Job, error: &Error) -> BuiltMessage {
        // A send hands over the whole environment, with the terms that were converted before the
        // error.
        self.env.clear();
        self.failure(job, error)
    }

    fn failure(&mut self, job: &Job, error: &Error) -> BuiltMessage {
        let mut message = self
            .env
            .run(|env| BuiltMessage::of(job.failure(env, error)));
        message.set_error();
        message
    }

    /// Copies the message to an environment that holds nothing else: a send hands the whole
    /// environment over to the receiver.
    fn rewrite(&mut self, message: &BuiltMessage) -> BuiltMessage {
        let fresh = OwnedEnv::new();
        // SAFETY: the term lives in `self.env`, which is not replaced before the copy is made.
        let copy = fresh.run(|env| unsafe { sys::enif_make_copy(env.as_c_arg(), message.term) });
        self.env = fresh;
        BuiltMessage {
            term: copy,
            ..*message
        }
    }

    /// Sends the reply, unless the ticket says that the caller does not wait for it, and settles
    /// the job. The buffer is empty afterwards.
    pub(crate) fn send_reply(&mut self, job: &Job, message: BuiltMessage) {
        match job.ticket.complete() {
            Completion::Reply => self.send_end(job, message),
            Completion::Interrupted => {
                // The result that the code has produced in spite of the interrupt is dropped.
                if let Some(demand) = job.demand() {
                    demand.fail();
                }
                let message = self.fail(job, &Error::Interrupted);
                self.send_end(job, message);
            }
            Completion::Early => self.env.clear(),
            Completion::Nothing => self.env.clear(),
        }
        job.settle();
    }

    /// Replies `interrupted` to a caller that waits for it, before the code has stopped. Called by
    /// the watchdog, and by the thread of the children, for a job in the middle of an import.
    pub(crate) fn interrupt(&mut self, job: &Job) {
        if job.ticket.reply_early() {
            self.send_refusal(job, &Error::Interrupted);
            // `stream_close` waits for this message only, not for the end of the code.
            if let Some(demand) = job.demand() {
                demand.settle();
            }
        }
    }

    /// Replies with `error` to a job that has not run, or not to its end, and settles it. Does
    /// nothing more if the caller has its reply or has cancelled.
    pub(crate) fn refuse(&mut self, job: &Job, error: Error) {
        self.env.clear();
        let is_awaited = matches!(
            job.ticket.complete(),
            Completion::Reply | Completion::Interrupted
        );
        if is_awaited {
            self.send_refusal(job, &error);
        }
        job.settle();
    }

    fn send_refusal(&mut self, job: &Job, error: &Error) {
        if let Some(demand) = job.demand() {
            demand.fail();
        }
        let message = self.failure(job, error);
        self.send_end(job, message);
    }

    /// Sends the message that ends a job.
    fn send_end(&mut self, job: &Job, message: BuiltMessage) {
        if message.is_error {
            job.ticket.pending().count_failure();
        }
        self.send(job.receiver(), message);
    }

    /// Sends the term that `write` returns; `false` if the process does not live.
    ///
    /// # Errors
    /// The error of `write`; nothing was sent.
    pub(crate) fn send_to(
        &mut self,
        to: &LocalPid,
        write: impl for<'a> FnOnce(Env<'a>) -> Result<Answer<'a>, Error>,
    ) -> Result<bool, Error> {
        let written = self.env.run(|env| {
            let answer = write(env)?;
            Ok((BuiltMessage::of(answer.term), answer.has_garbage))
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

    /// Sends a message to `py_pool` or `py_callback`.
    pub(crate) fn notify(&mut self, to: &LocalPid, message: impl Encoder) {
        self.env.clear();
        let message = self.env.run(|env| BuiltMessage::of(message.encode(env)));
        self.send(to, message);
    }

    pub(crate) fn clear(&mut self) {
        self.env.clear();
    }

    /// Sends a built message and empties the buffer; `false` if the process does not live.
    fn send(&mut self, to: &LocalPid, message: BuiltMessage) -> bool {
        let env = self.env.run(|env| env.as_c_arg());
        // SAFETY: the thread is no scheduler, so there is no caller environment to pass; the term was
        // made in `env`, which is cleared after the send.
        let sent = unsafe { sys::enif_send(ptr::null_mut(), to.as_c_arg(), env, message.term) };
        self.env.clear();
        sent != 0
    }
}
