//! How a thread runs a job: from the ticket to the reply.

use pyo3::ffi;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use py_engine::call_stack::{self, with_call};
use py_engine::host::Host;
use py_engine::namespace::Namespace;

use super::Current;
use super::execute::execute;
use super::job_host::JobHost;
use crate::error::Error;
use crate::job::{Job, ReplyBuffer};
use crate::pool::Lease;
use crate::watch::Task;

/// Why a thread ends.
pub(crate) enum Exit {
    /// The pool has closed.
    Closed,
    /// A job panicked.
    Crashed,
    /// The thread could not be interrupted, and what it owned was given to its successor.
    Abandoned,
}

/// A job whose ticket says that it runs, and which the watchdog sees.
pub(crate) struct StartedJob<'a> {
    job: &'a Arc<Job>,
    lease: Option<&'a Arc<Lease>>,
    /// How many tasks the thread was in before.
    depth: usize,
}

impl Current {
    /// Starts a job; `None` when it must not run.
    pub(crate) fn start_job<'a>(
        &self,
        py: Python<'_>,
        job: &'a Arc<Job>,
        lease: Option<&'a Arc<Lease>>,
        replies: &mut ReplyBuffer,
    ) -> Result<Option<StartedJob<'a>>, Exit> {
        // The watchdog sees the task first, then the ticket starts, and only then does the thread
        // look whether the lease or the pool has ended: who ends one looks for what has started.
        if let Some(worker) = self.worker() {
            worker.turn.borrow_mut().begin();
        }
        let depth = self
            .watched
            .begin(Task::Job(Arc::clone(job), lease.cloned()));
        let refusal = if !job.ticket.start() {
            None
        } else if lease.is_some_and(|lease| lease.is_ended()) {
            Some(Error::ContextNotBound)
        } else if self.worker().is_some_and(|worker| worker.pool.is_closed()) {
            Some(Error::NoWorkersAvailable)
        } else {
            return Ok(Some(StartedJob { job, lease, depth }));
        };
        let goes_on = self.watched.resume(py.into(), depth);
        match refusal {
            Some(error) => replies.refuse(job, error),
            None => job.settle(),
        }
        if goes_on {
            Ok(None)
        } else {
            Err(Exit::Abandoned)
        }
    }

    /// Runs a started job and replies to it; a job that panicked is left to the caller of this.
    pub(crate) fn run_job<'py>(
        &self,
        py: Python<'py>,
        StartedJob { job, lease, depth }: StartedJob<'_>,
        namespace: &Rc<Namespace<'py>>,
        replies: &mut ReplyBuffer,
        before_reply: impl FnOnce(),
    ) -> Result<(), Exit> {
        let job = Arc::clone(job);
        let host = JobHost::new(Some(&job), lease);
        let dyn_host: Arc<dyn Host> = host.clone();
        let (written, is_current) = with_call(&dyn_host, namespace, || {
            let run = || replies.write(&job, |env| execute(py, &host, namespace, env));
            catch_unwind(AssertUnwindSafe(run))
        });
        if !is_current {
            // The job around it has ended, and its call with it: see `call_stack`.
            replies.refuse(&job, Error::Interrupted);
            return Ok(());
        }
        clear_indicator();
        if !self.watched.resume(py.into(), depth) {
            // The callers that waited when the thread was abandoned have their replies; this one may
            // have come later.
            replies.refuse(&job, Error::Interrupted);
            return Err(Exit::Abandoned);
        }
        let Ok(message) = written else {
            replies.clear();
            return Err(Exit::Crashed);
        };
        before_reply();
        if let Some(message) = message {
            replies.send_reply(&job, message);
        }
        Ok(())
    }

    /// Runs a job in the middle of what the thread does.
    pub(crate) fn run_nested(&self, py: Python<'_>, job: &Arc<Job>) -> Result<(), Exit> {
        let mut replies = ReplyBuffer::new();
        let call = call_stack::innermost();
        let outer = call.as_ref().and_then(|call| JobHost::of(&*call.host));
        let lease = outer.and_then(JobHost::lease);
        let Some(started) = self.start_job(py, job, lease, &mut replies)? else {
            return Ok(());
        };
        let own;
        let namespace = if let Some(call) = &call {
            &call.namespace
        } else {
            own = Namespace::of_thread(py);
            match &own {
                Ok(namespace) => namespace,
                Err(error) => {
                    self.watched.resume(py.into(), started.depth);
                    replies.refuse(job, error.clone_ref(py).into());
                    return Ok(());
                }
            }
        };
        let done = self.run_job(py, started, namespace, &mut replies, || {});
        if let Err(Exit::Crashed) = done {
            replies.refuse(job, Error::WorkerCrashed);
        }
        done
    }
}

/// Clears an error indicator that code of C left set, which would fail the next job.
pub(crate) fn clear_indicator() {
    // SAFETY: only called between two jobs, on an attached thread.
    unsafe { ffi::PyErr_Clear() };
}
