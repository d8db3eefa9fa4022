//! What a worker does while it serves a lease: its jobs, the iterators to close, its event loop.

use pyo3::prelude::*;
use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::context::Lease;
use crate::error::Error;
use crate::interrupt::Interrupted;
use crate::namespace::Namespace;
use crate::pool::Pool;
use crate::slot::Task;
use crate::station::Exit;
use crate::{flights, iterators, switch, watchdog};

impl Worker {
    /// Until the lease ends.
    pub(super) fn run_errands<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        namespace: &Rc<Namespace<'py>>,
    ) -> Result<(), Exit> {
        self.turn.borrow().leave_desk(&self.pool);
        lease.seat(self.turn.borrow().seat());
        while !lease.is_ended() {
            for id in lease.take_closing() {
                self.clean(py, Some(lease), || {
                    iterators::close(py, id);
                    Vec::new()
                })?;
            }
            let job = if self.turn.borrow_mut().goes_on() {
                lease.next()
            } else {
                None
            };
            let Some(job) = job else {
                if lease.board().is_empty() || lease.wants_worker() {
                    let turn = &mut *self.turn.borrow_mut();
                    switch::detach(py, || turn.rest::<Pool>(None, || lease.wants_worker()));
                } else {
                    self.run_loop(py, lease, namespace, false)?;
                }
                continue;
            };
            let (station, outbox) = (&self.station, &mut self.outbox);
            let Some(taken) = station.take(py, &job, Some(lease), outbox)? else {
                lease.finish_job();
                continue;
            };
            let finish = || lease.finish_job();
            if let Err(exit) = station.execute(py, taken, namespace, outbox, finish) {
                if matches!(exit, Exit::Crashed) {
                    // In this order, so that the caller finds its binding gone.
                    lease.end();
                    lease.tell_ended(&mut self.outbox);
                    lease.finish_job();
                    self.outbox.refuse(&job, Error::WorkerCrashed);
                }
                return Err(exit);
            }
            if job.stream().is_some_and(|stream| stream.frees_lease()) {
                lease.end();
            }
            if !lease.board().is_empty() {
                // However many jobs come, the tasks go on.
                self.run_loop(py, lease, namespace, true)?;
            }
        }
        Ok(())
    }

    /// Runs the tasks of a lease, until there is something else to do; or, `once`, for a moment.
    fn run_loop<'py>(
        &mut self,
        py: Python<'py>,
        lease: &Arc<Lease>,
        namespace: &Rc<Namespace<'py>>,
        once: bool,
    ) -> Result<(), Exit> {
        if !once {
            self.turn.borrow_mut().give_up();
        }
        let station = Rc::clone(&self.station);
        self.guard(py, |this| {
            this.slot.begin(Task::Flights(Arc::clone(lease)));
            let outbox = &mut this.outbox;
            let run_tasks = || {
                flights::cancel_unwanted(py, lease, outbox);
                if lease.board().has_noticed() {
                    // Somebody has to look what becomes of it, while this thread waits.
                    watchdog::ring();
                }
                let run = || {
                    if once || lease.enter_loop(&flights::bell(py)?) {
                        flights::run(py, once)?;
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
                flights::cancel_all(py);
                false
            };
            // Tasks may replace standard streams as jobs may.
            let is_whole =
                station.within(None, Some(lease), namespace, || namespace.run(run_tasks));
            if !is_whole {
                // The loop itself was hit, and may have lost what it was about to run: whoever waits
                // for one of its tasks might wait for ever.
                flights::refuse(lease, &mut this.outbox);
            }
            Ok(())
        })
    }
}
