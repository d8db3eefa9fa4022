//! The worker: one thread that is attached to Python for its whole life, and so has one thread
//! state, one `threading.local`, one identity. It detaches while it waits.
//!
//! It takes unbound jobs and leases from the pool's queue; while it serves a lease, only that
//! lease's errands. A panic ends the thread, which starts its successor; `py_pool` hears of it.

use pyo3::ffi;
use pyo3::prelude::*;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::atoms;
use crate::context::{Errand, Lease};
use crate::error::Error;
use crate::job::Job;
use crate::namespace::Namespace;
use crate::pool::{Pool, Work};
use crate::reply::Outbox;

/// Python's recursion limit, deep conversions and C extensions need more than the 2 MiB that a
/// Rust thread gets. Address space only: pages are used as they are touched.
pub(crate) const STACK_SIZE: usize = 16 << 20;

struct Worker {
    pool: Arc<Pool>,
    outbox: Outbox,
}

/// Why the thread ends.
enum Exit {
    Closed,
    Crashed,
}

/// A job panicked: the thread must end.
struct Crash;

/// Starts the worker `id` of `pool`. Runs on a scheduler thread.
pub(crate) fn spawn(pool: Arc<Pool>, id: u64) -> io::Result<()> {
    let builder = thread::Builder::new()
        .name(format!("py_worker_{id}"))
        .stack_size(STACK_SIZE);
    builder.spawn(move || run(pool, id)).map(|_detached| ())
}

fn run(pool: Arc<Pool>, id: u64) {
    let serve = || {
        let mut worker = Worker {
            pool: Arc::clone(&pool),
            outbox: Outbox::new(),
        };
        Python::attach(|py| worker.serve(py))
    };
    match catch_unwind(AssertUnwindSafe(serve)) {
        Ok(Exit::Closed) => {}
        Ok(Exit::Crashed) | Err(_) => {
            // The successor is started here and not by `py_pool`, which may be stopping: a
            // closed pool as well needs somebody to refuse what is queued there.
            let successor = spawn(Arc::clone(&pool), id);
            let fate = successor.map_or(atoms::lost(), |()| atoms::crashed());
            Outbox::new().note(&pool.manager, (atoms::py_worker(), id, fate));
        }
    }
}

impl Worker {
    fn serve(&mut self, py: Python<'_>) -> Exit {
        let pool = Arc::clone(&self.pool);
        loop {
            if pool.is_closed() {
                self.refuse_rest();
                return Exit::Closed;
            }
            let served = match py.detach(|| pool.queue.wait()) {
                Some(Work::Job(job)) => self.serve_unbound(py, &job),
                Some(Work::Lease(lease)) => self.serve_lease(py, &lease),
                Some(Work::Wake) => Ok(()),
                None => return Exit::Closed,
            };
            if let Err(Crash) = served {
                return Exit::Crashed;
            }
        }
    }

    /// A closed pool: nobody will take what is queued there.
    fn refuse_rest(&mut self) {
        while let Some(work) = self.pool.queue.pop() {
            match work {
                Work::Job(job) => self.outbox.refuse(&job, Error::NoWorkersAvailable),
                Work::Lease(lease) => {
                    lease.end();
                    self.leave(&lease, || Error::ContextNotBound);
                }
                Work::Wake => {}
            }
        }
        // What was just taken may have been meant to wake the others.
        self.pool.wake_one();
    }

    fn serve_unbound(&mut self, py: Python<'_>, job: &Job) -> Result<(), Crash> {
        if !job.ticket.start() {
            return Ok(());
        }
        let served = guard(|| self.run_unbound(py, job));
        if served.is_err() {
            // Nothing is sent if the job was replied before it crashed.
            self.outbox.refuse(job, Error::WorkerCrashed);
        }
        served
    }

    /// An unbound job runs in a namespace of its own.
    fn run_unbound(&mut self, py: Python<'_>, job: &Job) -> Result<(), Crash> {
        match Namespace::enter(py) {
            Ok(namespace) => {
                let done = self.execute(py, job, &namespace, || {});
                namespace.leave();
                done
            }
            Err(error) => {
                self.outbox.refuse(job, error.into());
                Ok(())
            }
        }
    }

    /// Whatever happens in it, the lease ends, once.
    fn serve_lease(&mut self, py: Python<'_>, lease: &Arc<Lease>) -> Result<(), Crash> {
        let served = if lease.is_ended() {
            Ok(())
        } else {
            guard(|| self.run_lease(py, lease))
        };
        lease.end();
        match served {
            Ok(()) => self.leave(lease, || Error::ContextNotBound),
            Err(Crash) => self.leave(lease, || Error::WorkerCrashed),
        }
        served
    }

    fn run_lease(&mut self, py: Python<'_>, lease: &Lease) -> Result<(), Crash> {
        // Fails only without memory for an empty module: nothing can run here.
        let namespace = Namespace::enter(py).map_err(|_| Crash)?;
        let served = self.run_errands(py, lease, &namespace);
        namespace.leave_empty();
        served
    }

    /// Until the lease ends.
    fn run_errands<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Lease,
        namespace: &Namespace<'py>,
    ) -> Result<(), Crash> {
        while !lease.is_ended() {
            let Some(Errand::Job(job)) = py.detach(|| lease.wait()) else {
                continue;
            };
            if lease.is_ended() {
                lease.finish_job();
                self.outbox.refuse(&job, Error::ContextNotBound);
            } else if !job.ticket.start() {
                lease.finish_job();
            } else if let Err(Crash) = self.execute(py, &job, namespace, || lease.finish_job()) {
                // In this order, so that the caller finds its binding gone.
                lease.end();
                self.tell_ended(lease);
                lease.finish_job();
                self.outbox.refuse(&job, Error::WorkerCrashed);
                return Err(Crash);
            }
        }
        Ok(())
    }

    /// Runs a started job and replies to it; a job that panicked is left to the caller of this.
    fn execute<'py>(
        &mut self,
        py: Python<'py>,
        job: &Job,
        namespace: &Namespace<'py>,
        before_reply: impl FnOnce(),
    ) -> Result<(), Crash> {
        let outbox = &mut self.outbox;
        let run = || outbox.write(job, |env| job.execute(py, namespace, env));
        let written = catch_unwind(AssertUnwindSafe(run));
        clear_indicator();
        match written {
            Ok(letter) => {
                before_reply();
                self.outbox.post(job, letter);
                Ok(())
            }
            Err(_) => {
                self.outbox.clear();
                Err(Crash)
            }
        }
    }

    /// The end of a lease on its worker: nothing of it is left, and `py_pool` hears of it.
    fn leave(&mut self, lease: &Lease, refusal: impl Fn() -> Error) {
        lease.refuse_rest(|job| self.outbox.refuse(job, refusal()));
        lease.leave();
        self.tell_ended(lease);
    }

    fn tell_ended(&mut self, lease: &Lease) {
        let note = (atoms::py_lease(), lease.id, atoms::ended());
        self.outbox.note(&self.pool.manager, note);
    }
}

/// Runs `body`; a panic in it is a crash of this worker.
fn guard(body: impl FnOnce() -> Result<(), Crash>) -> Result<(), Crash> {
    let done = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Crash));
    clear_indicator();
    done
}

/// An error indicator that something left set would fail the next caller's job.
fn clear_indicator() {
    // SAFETY: only called between two jobs, on an attached worker.
    unsafe { ffi::PyErr_Clear() };
}
