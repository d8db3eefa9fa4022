//! The worker: one thread that is attached to Python for its whole life, and so has one thread
//! state, one `threading.local`, one identity. It blocks only while it is detached: to park, and in
//! the event loop of a lease.
//!
//! States: a worker takes unbound jobs and leases from the pool's queue, or serves one lease and
//! runs the jobs of that only, or cleans up after one of them. It ends when the pool is closed,
//! when it was abandoned, or by a panic; see `thread.rs`.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use py_engine::namespace::{Namespace, child_threads};
use py_engine::python::switch_interval;
use py_engine::{asyncio, interrupt};

use crate::atoms;
use crate::error::Error;
use crate::gil::{GilTurn, RunQueue};
use crate::host::{Current, Exit, WorkerParts, clear_indicator, refuse_tasks};
use crate::job::{Job, ReplyBuffer};
use crate::pool::{Lease, Pool, Work};
use crate::watch::{Task, WatchedThread, expect_left_threads};

mod releaser;
mod serve_lease;
mod thread;
mod watchdog;

pub(crate) use releaser::spawn as spawn_releaser;
pub(crate) use thread::spawn;
pub(crate) use watchdog::start as start_watchdog;

pub(crate) struct Worker {
    pool: Arc<Pool>,
    watched: Arc<WatchedThread>,
    /// The GIL turn, shared with `current`. Borrowed for a look, or to park; no Python code runs
    /// meanwhile.
    turn: Rc<RefCell<GilTurn>>,
    current: Rc<Current>,
    replies: ReplyBuffer,
}

impl Worker {
    pub(crate) fn new(pool: &Arc<Pool>, watched: &Arc<WatchedThread>, turn: GilTurn) -> Self {
        let turn = Rc::new(RefCell::new(turn));
        let parts = WorkerParts {
            pool: Arc::clone(pool),
            turn: Rc::clone(&turn),
        };
        Self {
            pool: Arc::clone(pool),
            watched: Arc::clone(watched),
            current: Current::open(watched, Some(parts)),
            turn,
            replies: ReplyBuffer::new(),
        }
    }

    /// Serves the pool until it closes, or the thread must end; returns why. Called on the worker's
    /// thread, attached.
    pub(crate) fn serve(&mut self, py: Python<'_>) -> Exit {
        child_threads::listen();
        let pool = Arc::clone(&self.pool);
        // The namespace of the last unbound job, if it has left nothing in it.
        let mut spare = None;
        loop {
            if pool.is_closed() {
                pool.refuse_excess(&mut self.replies);
                return Exit::Closed;
            }
            let work = if self.turn.borrow_mut().may_continue() {
                pool.next()
            } else {
                None
            };
            let served = match work {
                Some(Work::Job(job)) => self.serve_unbound(py, &job, &mut spare),
                Some(Work::Lease(lease)) => self.serve_lease(py, &lease, &mut spare),
                None => {
                    let turn = &mut *self.turn.borrow_mut();
                    switch_interval::detach(py, || turn.park(Some(&pool), || pool.has_work()));
                    turn.attached();
                    Ok(())
                }
            };
            if let Err(exit) = served {
                return exit;
            }
        }
    }

    fn serve_unbound<'py>(
        &mut self,
        py: Python<'py>,
        job: &Arc<Job>,
        spare: &mut Option<Rc<Namespace<'py>>>,
    ) -> Result<(), Exit> {
        let served = self.guard(py, |this| this.run_unbound(py, job, spare));
        if let Err(Exit::Crashed) = served {
            // `refuse` does nothing if the job has its reply.
            self.replies.refuse(job, Error::WorkerCrashed);
        }
        served
    }

    fn run_unbound<'py>(
        &mut self,
        py: Python<'py>,
        job: &Arc<Job>,
        spare: &mut Option<Rc<Namespace<'py>>>,
    ) -> Result<(), Exit> {
        let Some(started) = self.current.start_job(py, job, None, &mut self.replies)? else {
            return Ok(());
        };
        // Functions that statements define refer to their namespace, and only a garbage collection
        // of their generation frees both: so a job of statements gets a namespace that is as young.
        let reused = spare.take().filter(|_| !job.is_exec());
        match reused.map_or_else(|| Namespace::enter(py), Ok) {
            Ok(namespace) => {
                let replies = &mut self.replies;
                let done = self
                    .current
                    .run_job(py, started, &namespace, replies, || {});
                if done.is_ok() && namespace.is_new() {
                    *spare = Some(namespace);
                    return done;
                }
                if let Err(Exit::Crashed) = done {
                    // The caller is answered before the clean-up, which may get stuck.
                    self.replies.refuse(job, Error::WorkerCrashed);
                }
                self.clean(py, None, || namespace.leave_unbound()).and(done)
            }
            Err(error) => {
                self.replies.refuse(job, error.into());
                Ok(())
            }
        }
    }

    /// Serves a lease until it ends. A crash ends the lease too; the watchdog ends that of an
    /// abandoned thread. So every lease is left once.
    fn serve_lease<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        spare: &mut Option<Rc<Namespace<'py>>>,
    ) -> Result<(), Exit> {
        self.watched.serve(Some(lease));
        let served = if lease.is_ended() {
            Ok(())
        } else {
            self.guard(py, |this| this.run_lease(py, lease, spare))
        };
        self.watched.serve(None);
        let refusal = match served {
            Ok(()) | Err(Exit::Closed) => || Error::ContextNotBound,
            Err(Exit::Crashed) => || Error::WorkerCrashed,
            Err(Exit::Abandoned) => return served,
        };
        lease.end();
        refuse_tasks(lease, &mut self.replies);
        lease.leave(&mut self.replies, refusal);
        served
    }

    fn run_lease<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        spare: &mut Option<Rc<Namespace<'py>>>,
    ) -> Result<(), Exit> {
        interrupt::unblock_signal();
        // COMPAT(3.11): a garbage collection, and so a finalizer, may run while the namespace is
        // made.
        self.watched.begin(Task::Cleaning(Some(Arc::clone(lease))));
        let namespace = spare.take().map_or_else(|| Namespace::enter(py), Ok);
        if !self.watched.end(py.into()) {
            return Err(Exit::Abandoned);
        }
        // `enter` fails only without memory for an empty module, so no job could run here.
        let namespace = namespace.map_err(|_| Exit::Crashed)?;
        let served = self.serve_jobs(py, lease, &namespace);
        let leave = || {
            asyncio::close_all(&namespace);
            namespace.leave_empty()
        };
        self.clean(py, Some(lease), leave).and(served)
    }

    /// Runs `body`, which cleans up after a job or a lease, watched by the watchdog. `body` returns
    /// the names of threads that code has left running: `py_pool` is notified of them.
    fn clean(
        &mut self,
        py: Python<'_>,
        lease: Option<&Arc<Lease>>,
        body: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Exit> {
        self.guard(py, |this| {
            this.watched.begin(Task::Cleaning(lease.cloned()));
            let left = body();
            // An abandoned thread touches nothing of the pool.
            if !left.is_empty() && !this.watched.is_abandoned() {
                this.notify_left(lease.map(|lease| lease.id), left);
            }
            Ok(())
        })
    }

    /// Counts the Python threads that a lease or an unbound job has left running, and notifies
    /// `py_pool`.
    fn notify_left(&mut self, lease: Option<u64>, names: Vec<String>) {
        expect_left_threads();
        let count = names.len();
        self.pool.left_threads.fetch_add(count, Ordering::Relaxed);
        let (replies, manager) = (&mut self.replies, &self.pool.manager);
        match lease {
            Some(id) => replies.notify(manager, (atoms::py_threads(), id, names)),
            None => replies.notify(manager, (atoms::py_threads(), atoms::none(), names)),
        }
    }

    /// Runs `body` and ends the tasks that it has begun. A panic in it is returned as `Crashed`;
    /// `Abandoned` if the thread was abandoned meanwhile.
    fn guard(
        &mut self,
        py: Python<'_>,
        body: impl FnOnce(&mut Self) -> Result<(), Exit>,
    ) -> Result<(), Exit> {
        let done = catch_unwind(AssertUnwindSafe(|| body(self)));
        clear_indicator();
        if self.watched.end(py.into()) {
            done.unwrap_or(Err(Exit::Crashed))
        } else {
            Err(Exit::Abandoned)
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        Current::close();
    }
}
