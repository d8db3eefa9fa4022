//! The loop of a worker that serves a lease: iterators are closed, jobs are run, the event loop is
//! run while tasks are in flight, and the worker parks otherwise.
//!
//! Runs on the worker's thread, attached; blocks only detached, to park, and in the event loop.

use pyo3::prelude::*;
use std::rc::Rc;
use std::sync::Arc;

use py_engine::asyncio;
use py_engine::call_stack::with_call;
use py_engine::host::Host;
use py_engine::interrupt::{Interrupted, LoopMask};
use py_engine::namespace::Namespace;
use py_engine::python::switch_interval;

use super::Worker;
use crate::error::Error;
use crate::host::{Exit, JobHost, cancel_unwanted, refuse_tasks};
use crate::job::Job;
use crate::pool::{Lease, LeaseWorker, Pool};
use crate::watch::Task;

impl Worker {
    /// Runs the jobs and tasks of a lease until it ends. `Err` if the thread has to end.
    pub(super) fn serve_jobs<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        namespace: &Rc<Namespace<'py>>,
    ) -> Result<(), Exit> {
        self.turn.borrow().leave_queue(&self.pool);
        let worker = Arc::clone(self.turn.borrow().worker());
        lease.serve_by(LeaseWorker::Thread(worker));
        while !lease.is_ended() {
            for id in lease.take_iterators_to_close() {
                self.clean(py, Some(lease), || {
                    asyncio::close(namespace, id);
                    Vec::new()
                })?;
            }
            let job = if self.turn.borrow_mut().may_continue() {
                lease.next()
            } else {
                None
            };
            let Some(job) = job else {
                if lease.in_flight().is_empty() || lease.wants_worker() {
                    let turn = &mut *self.turn.borrow_mut();
                    switch_interval::detach(py, || {
                        turn.park::<Pool>(None, || lease.wants_worker())
                    });
                    turn.attached();
                } else {
                    self.run_loop(py, lease, namespace, false)?;
                }
                continue;
            };
            self.serve_job(py, lease, namespace, &job)?;
            if !lease.in_flight().is_empty() {
                // Run once after each job, so that tasks go on while jobs keep coming.
                self.run_loop(py, lease, namespace, true)?;
            }
        }
        Ok(())
    }

    /// Runs one job of the lease, unless it must not run, and replies to it.
    fn serve_job<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        namespace: &Rc<Namespace<'py>>,
        job: &Arc<Job>,
    ) -> Result<(), Exit> {
        let (current, replies) = (&self.current, &mut self.replies);
        let Some(started) = current.start_job(py, job, Some(lease), replies)? else {
            lease.finish_job();
            return Ok(());
        };
        let finish = || lease.finish_job();
        let ran = current.run_job(py, started, namespace, replies, finish);
        if let Err(Exit::Crashed) = ran {
            // `py_pool` is notified before the reply, so that the caller finds no binding.
            lease.end();
            lease.notify_ended(&mut self.replies);
            lease.finish_job();
            self.replies.refuse(job, Error::WorkerCrashed);
        }
        ran?;
        if job.demand().is_some_and(|demand| demand.frees_lease()) {
            lease.end();
        }
        Ok(())
    }

    /// Runs the event loop of a lease until it is woken for other work; with `once`, only the
    /// callbacks that are due. A loop that was hit by an exception has its tasks cancelled and
    /// refused.
    fn run_loop<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        namespace: &Rc<Namespace<'py>>,
        once: bool,
    ) -> Result<(), Exit> {
        if !once {
            self.turn.borrow_mut().yield_turn();
        }
        let host: Arc<dyn Host> = JobHost::new(None, Some(lease));
        self.guard(py, |this| {
            this.watched.begin(Task::EventLoop(Arc::clone(lease)));
            let replies = &mut this.replies;
            let run_tasks = || {
                // An interrupt here would end all tasks, instead of the one that is stuck.
                let _mask = LoopMask::new(py);
                cancel_unwanted(py, lease, replies);
                let run = || {
                    if once || lease.enter_loop(&asyncio::loop_waker(py)?) {
                        asyncio::run(py, once)?;
                    }
                    Ok(())
                };
                let ran: PyResult<()> = run();
                lease.leave_loop();
                let Err(error) = ran else {
                    return true;
                };
                if !error.is_instance_of::<Interrupted>(py) {
                    error.write_unraisable(py, None);
                }
                asyncio::cancel_all(py);
                false
            };
            // Tasks may replace standard streams as jobs may.
            let (is_intact, _) = with_call(&host, namespace, || namespace.run(run_tasks));
            if !is_intact {
                // The exception may have hit a callback that the loop was about to run, so the
                // callers of its tasks might wait for ever.
                refuse_tasks(lease, &mut this.replies);
            }
            Ok(())
        })
    }
}
