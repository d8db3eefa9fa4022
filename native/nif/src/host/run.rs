//! Runs a job on the calling thread, from its ticket to its reply. Called by workers, and by
//! threads that wait for a callback, attached; blocks as the code of the job does.

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

/// The reason why a thread ends.
pub(crate) enum Exit {
    /// The pool has closed.
    Closed,
    /// A job has panicked.
    Crashed,
    /// The thread was abandoned: a successor may have its place, and it must touch nothing of the
    /// pool.
    Abandoned,
}

/// A job whose ticket is running, and that is a task of the watched thread.
pub(crate) struct StartedJob<'a> {
    job: &'a Arc<Job>,
    lease: Option<&'a Arc<Lease>>,
    /// The number of tasks that the thread was in before.
    depth: usize,
}

impl Current {
    /// Starts a job; `None` if it must not run: it was cancelled, or is refused here because its
    /// lease or pool has ended.
    pub(crate) fn start_job<'a>(
        &self,
        py: Python<'_>,
        job: &'a Arc<Job>,
        lease: Option<&'a Arc<Lease>>,
        replies: &mut ReplyBuffer,
    ) -> Result<Option<StartedJob<'a>>, Exit> {
        // The task is shown first, then the ticket starts, and then the thread looks whether the
        // lease or the pool has ended. A thread that ends one sets its flag first, and the watchdog
        // looks at the tasks then: so either it finds this task, or the end is found here.
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
        let is_kept = self.watched.resume(py.into(), depth);
        match refusal {
            Some(error) => replies.refuse(job, error),
            None => job.settle(),
        }
        if is_kept {
            Ok(None)
        } else {
            Err(Exit::Abandoned)
        }
    }

    /// Runs a started job and replies to it; `before_reply` is called right before the send. Leaves
    /// the reply of a job that has panicked to the caller, and returns `Crashed`.
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
            // The job around this one has ended, and has ended its call with it: see `call_stack`.
            replies.refuse(&job, Error::Interrupted);
            return Ok(());
        }
        clear_indicator();
        if !self.watched.resume(py.into(), depth) {
            // The watchdog has replied for the tasks that it saw; this job may have started later.
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

    /// Runs a job in the middle of the innermost call of the thread, in its namespace, or in that
    /// of the thread. Called while the thread waits for a callback.
    pub(crate) fn run_nested(&self, py: Python<'_>, job: &Arc<Job>) -> Result<(), Exit> {
        let mut replies = ReplyBuffer::new();
        let call = call_stack::innermost();
        let outer = call.as_ref().and_then(|call| JobHost::of(&*call.host));
        let lease = outer.and_then(JobHost::lease);
        let Some(started) = self.start_job(py, job, lease, &mut replies)? else {
            return Ok(());
        };
        let of_thread;
        let namespace = if let Some(call) = &call {
            &call.namespace
        } else {
            of_thread = Namespace::of_thread(py);
            match &of_thread {
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

/// Clears an error indicator that C code has left set: the next job would fail by it. Called
/// attached, after a job.
pub(crate) fn clear_indicator() {
    // SAFETY: every caller is attached, as it has a `Python` token.
    unsafe { ffi::PyErr_Clear() };
}
