//! Asynchronous calls in flight: coroutines that run as tasks of the event loop of a lease, while
//! its worker does other things. Each is a job that has been taken and is replied to when its task
//! is done.
//!
//! The tasks are thread-local, and used attached. The board, what others see of them, is looked at
//! by the watchdog, which never attaches. Whoever takes a flight off the board ends its job.

use pyo3::intern;
use pyo3::prelude::*;
use rustler::Encoder;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::bell::{Bell, PyBell};
use crate::context::Lease;
use crate::convert::to_term;
use crate::coroutines;
use crate::error::Error;
use crate::interrupt::Interrupted;
use crate::job::Job;
use crate::reply::Outbox;
use crate::slot::{InterruptMask, Task};
use crate::station::Station;

mod board;

pub(crate) use board::{Board, PATIENCE};

thread_local! {
    static TASKS: RefCell<Vec<(Arc<Job>, Py<PyAny>)>> = const { RefCell::new(Vec::new()) };
}

/// The job of a task, where its code finds it: see `coroutines.py`.
#[pyclass(frozen, module = "erlang")]
pub(crate) struct TaskJob(pub(crate) Arc<Job>);

/// Is called when a task is done.
#[pyclass(frozen, module = "erlang")]
struct Landing {
    job: Arc<Job>,
    lease: Arc<Lease>,
}

/// Starts a coroutine as a task, for a job that runs in this lease.
pub(crate) fn begin(
    coroutine: &Bound<'_, PyAny>,
    job: &Arc<Job>,
    lease: &Arc<Lease>,
) -> PyResult<()> {
    let py = coroutine.py();
    let module = coroutines::module(py)?;
    let landing = Landing {
        job: Arc::clone(job),
        lease: Arc::clone(lease),
    };
    let is_first = TASKS.with_borrow(Vec::is_empty);
    let args = (coroutine, TaskJob(Arc::clone(job)), landing, is_first);
    // A task that nobody knows of would go on for ever.
    let _mask = InterruptMask::new(py);
    // On the board first: the task may be done before this returns.
    lease.begin_flight(job);
    let begun = module.call_method1(intern!(py, "begin"), args);
    match begun.and_then(|task| Ok((task, bell(py)?))) {
        Ok((task, bell)) => {
            lease.listen(&bell);
            TASKS.with_borrow_mut(|tasks| tasks.push((Arc::clone(job), task.unbind())));
            Ok(())
        }
        Err(error) => {
            if lease.board().remove(job) {
                lease.finish_job();
            }
            Err(error)
        }
    }
}

#[pymethods]
impl Landing {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        let (landed, others) = TASKS
            .take()
            .into_iter()
            .partition(|(job, _)| Arc::ptr_eq(job, &self.job));
        TASKS.set(others);
        let landed: Vec<(Arc<Job>, Py<PyAny>)> = landed;
        drop(landed);
        if !self.lease.board().remove(&self.job) {
            // The worker was abandoned, and others have seen to it.
            return;
        }
        let mut outbox = Outbox::new();
        let write = || {
            outbox.write(&self.job, |env| {
                let value = self.result(py, task)?;
                let answer = to_term(env, &value, &self.job.ticket)?;
                let tag = answer.tag();
                Ok(answer.map(|value| (tag, value).encode(env)))
            })
        };
        let written = catch_unwind(AssertUnwindSafe(write));
        // Whatever has happened: the lease waits for it at its end.
        self.lease.finish_job();
        match written {
            Ok(Some(letter)) => outbox.post(&self.job, letter),
            Ok(None) => {}
            // The loop would catch a panic, and go on.
            Err(_) => outbox.refuse(&self.job, Error::WorkerCrashed),
        }
    }
}

impl Landing {
    fn result<'py>(
        &self,
        py: Python<'py>,
        task: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>, Error> {
        let is_cancelled = task.call_method0(intern!(py, "cancelled"))?.is_truthy()?;
        // What it was awaiting may have been cancelled by its own code.
        if is_cancelled && (self.job.is_unwanted() || self.lease.is_ended()) {
            return Err(Error::Interrupted);
        }
        task.call_method0(intern!(py, "result")).map_err(|error| {
            // Also one that was meant for others.
            if error.is_instance_of::<Interrupted>(py) {
                Error::Interrupted
            } else {
                self.tell(py, error)
            }
        })
    }

    /// The exception of a task, whose `__str__` may never end: the watchdog watches it as a job,
    /// since its flight is off the board.
    fn tell(&self, py: Python<'_>, error: PyErr) -> Error {
        let station = Station::here();
        let task = Task::Job(Arc::clone(&self.job), Some(Arc::clone(&self.lease)));
        let depth = station.slot.begin(task);
        let error = Error::from(error);
        if station.slot.resume(py.into(), depth) {
            error
        } else {
            Error::Interrupted
        }
    }
}

/// Called by the loop when its bell has rung while a call waits in it: `true` if nobody wants that
/// one any more.
#[pyfunction]
pub(crate) fn tend(py: Python<'_>) -> bool {
    let frame = Station::existing().and_then(|station| station.frame());
    let Some(frame) = frame else {
        return false;
    };
    if let Some(lease) = &frame.lease {
        cancel_unwanted(py, lease, &mut Outbox::new());
    }
    frame.job.is_some_and(|job| job.is_unwanted())
}

/// Cancels the tasks that nobody wants any more, and gives up those that were cancelled in vain.
pub(crate) fn cancel_unwanted(py: Python<'_>, lease: &Lease, outbox: &mut Outbox) {
    for job in lease.board().take_lost() {
        lease.finish_job();
        outbox.refuse(&job, Error::Interrupted);
    }
    for unwanted in lease.board().take_notice() {
        let find = |(job, task): &(Arc<Job>, Py<PyAny>)| {
            Arc::ptr_eq(job, &unwanted).then(|| task.clone_ref(py))
        };
        let task = TASKS.with_borrow(|tasks| tasks.iter().find_map(find));
        if let Some(task) = task
            && let Err(error) = task.call_method0(py, intern!(py, "cancel"))
        {
            error.write_unraisable(py, None);
        }
    }
}

/// Cancels every task, as far as their loop is whole.
pub(crate) fn cancel_all(py: Python<'_>) {
    for (_, task) in TASKS.take() {
        if let Err(error) = task.call_method0(py, intern!(py, "cancel")) {
            error.write_unraisable(py, None);
        }
    }
}

/// The lease is over, and its loop closed. Runs on the worker.
pub(crate) fn forget() {
    drop(TASKS.take());
}

/// What has not landed never will.
pub(crate) fn refuse(lease: &Lease, outbox: &mut Outbox) {
    for job in lease.board().clear() {
        lease.finish_job();
        outbox.refuse(&job, Error::Interrupted);
    }
}

/// The bell of the loop of the calling thread.
pub(crate) fn bell(py: Python<'_>) -> PyResult<Arc<Bell>> {
    let bell = coroutines::module(py)?.call_method0(intern!(py, "bell"))?;
    let bell = bell.cast::<PyBell>().map_err(PyErr::from)?;
    Ok(Arc::clone(&bell.get().0))
}

/// Runs the loop of the calling thread until its bell rings; or, `once`, what is due in it.
pub(crate) fn run(py: Python<'_>, once: bool) -> PyResult<()> {
    let module = coroutines::module(py)?;
    module
        .call_method1(intern!(py, "pump"), (once,))
        .map(|_| ())
}
