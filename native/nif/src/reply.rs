//! The only room that sends. Runs on threads of our own and of Python's: a send from a scheduler
//! thread would be lost.

use rustler::sys::{self, ErlNifTerm};
use rustler::{Encoder, Env, LocalPid, OwnedEnv};
use std::ptr;

use crate::convert::Answer;
use crate::error::Error;
use crate::job::Job;
use crate::ticket::Completion;

/// Where a worker builds its messages. One environment, cleared after each.
pub(crate) struct Outbox {
    env: OwnedEnv,
}

/// A message that stands in the outbox, not sent yet.
pub(crate) struct Letter(ErlNifTerm);

impl Outbox {
    pub(crate) fn new() -> Self {
        let env = OwnedEnv::new();
        Self { env }
    }

    /// Writes the message that ends `job`, unless that is for later.
    pub(crate) fn write(
        &mut self,
        job: &Job,
        result: impl for<'a> FnOnce(Env<'a>) -> Result<Answer<'a>, Error>,
    ) -> Option<Letter> {
        let written = self.env.run(|env| {
            let answer = result(env)?;
            if answer.is_deferred {
                return Ok(None);
            }
            let answer = answer.map(|term| job.message(env, term));
            Ok(Some((Letter(answer.term.as_c_arg()), answer.scattered)))
        });
        match written {
            Ok(None) => None,
            Ok(Some((letter, false))) => Some(letter),
            Ok(Some((letter, true))) => Some(self.rewrite(&letter)),
            Err(error) => Some(self.fail(job, &error)),
        }
    }

    fn fail(&mut self, job: &Job, error: &Error) -> Letter {
        // What was converted before it failed would go to the caller, as garbage.
        self.env.clear();
        self.env
            .run(|env| Letter(job.failure(env, error).as_c_arg()))
    }

    /// A copy of the letter in an environment that holds nothing else: a send hands the whole of
    /// an environment to the receiver.
    fn rewrite(&mut self, Letter(term): &Letter) -> Letter {
        let fresh = OwnedEnv::new();
        // SAFETY: the term lives in `self.env` until that is replaced below.
        let copy = fresh.run(|env| unsafe { sys::enif_make_copy(env.as_c_arg(), *term) });
        self.env = fresh;
        Letter(copy)
    }

    /// Sends the reply, unless the caller has given up; empties the outbox either way.
    pub(crate) fn post(&mut self, job: &Job, letter: Letter) {
        match job.ticket.complete() {
            Completion::Reply => _ = self.send(&job.caller, letter),
            Completion::Interrupted => {
                // What the code has brought in spite of that is lost.
                if let Some(stream) = job.stream() {
                    stream.fail();
                }
                let letter = self.fail(job, &Error::Interrupted);
                self.send(&job.caller, letter);
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
            if let Some(stream) = job.stream() {
                stream.settle();
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
        if let Some(stream) = job.stream() {
            stream.fail();
        }
        let write = |env| Letter(job.failure(env, error).as_c_arg());
        let letter = self.env.run(write);
        self.send(&job.caller, letter);
    }

    /// Sends what `write` makes; `false` if there is no such process.
    pub(crate) fn tell(
        &mut self,
        to: &LocalPid,
        write: impl for<'a> FnOnce(Env<'a>) -> Result<Answer<'a>, Error>,
    ) -> Result<bool, Error> {
        let written = self.env.run(|env| {
            let answer = write(env)?;
            Ok((Letter(answer.term.as_c_arg()), answer.scattered))
        });
        match written {
            Ok((letter, false)) => Ok(self.send(to, letter)),
            Ok((letter, true)) => {
                let letter = self.rewrite(&letter);
                Ok(self.send(to, letter))
            }
            Err(error) => {
                self.env.clear();
                Err(error)
            }
        }
    }

    /// Tells `py_pool` or `py_callback` something.
    pub(crate) fn note(&mut self, to: &LocalPid, note: impl Encoder) {
        self.env.clear();
        let letter = self.env.run(|env| Letter(note.encode(env).as_c_arg()));
        self.send(to, letter);
    }

    pub(crate) fn clear(&mut self) {
        self.env.clear();
    }

    /// `false` if there is no such process, which is no error here.
    fn send(&mut self, to: &LocalPid, Letter(term): Letter) -> bool {
        let env = self.env.run(|env| env.as_c_arg());
        // SAFETY: not a scheduler thread, so no caller environment; `term` was made in `env`,
        // which the send takes the terms of and leaves empty. A dead receiver is no error.
        let sent = unsafe { sys::enif_send(ptr::null_mut(), to.as_c_arg(), env, term) };
        self.env.clear();
        sent != 0
    }
}
