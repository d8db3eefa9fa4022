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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bell::{Bell, PyBell};
use crate::context::Lease;
use crate::convert::to_term;
use crate::coroutines;
use crate::error::Error;
use crate::imports::Held;
use crate::interrupt::Interrupted;
use crate::job::Job;
use crate::reply::Outbox;
use crate::station::Station;

thread_local! {
    static TASKS: RefCell<Vec<(Arc<Job>, Py<PyAny>)>> = const { RefCell::new(Vec::new()) };
}

/// How long a task that was cancelled may take to end, and keep its lease from being idle.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The flights of one lease.
#[derive(Default)]
pub(crate) struct Board(Mutex<Vec<Flight>>);

struct Flight {
    job: Arc<Job>,
    /// Since when the loop knows that nobody wants it any more.
    noticed: Option<Instant>,
}

impl Flight {
    fn is_lost(&self) -> bool {
        self.noticed
            .is_some_and(|since| since.elapsed() >= PATIENCE)
    }
}

impl Board {
    pub(crate) fn is_empty(&self) -> bool {
        self.flights().is_empty()
    }

    pub(crate) fn add(&self, job: &Arc<Job>) {
        let job = Arc::clone(job);
        let noticed = None;
        self.flights().push(Flight { job, noticed });
    }

    /// `true` for who takes it off, and has to end its job.
    fn remove(&self, job: &Arc<Job>) -> bool {
        let mut flights = self.flights();
        let found = flights.iter().position(|f| Arc::ptr_eq(&f.job, job));
        let removed = found.map(|index| flights.swap_remove(index));
        drop(flights);
        removed.is_some()
    }

    /// All of them, for who has to end their jobs.
    pub(crate) fn clear(&self) -> Vec<Arc<Job>> {
        let flights = std::mem::take(&mut *self.flights());
        flights.into_iter().map(|flight| flight.job).collect()
    }

    /// Nobody waits for any of them.
    pub(crate) fn interrupt_all(&self) {
        let interrupt = |flight: &Flight| _ = flight.job.ticket.interrupt();
        self.flights().iter().for_each(interrupt);
    }

    /// Interrupts the flight that `is_it` knows; `true` when its caller will hear of it.
    pub(crate) fn interrupt(&self, is_it: impl Fn(&Job) -> bool) -> bool {
        let flights = self.flights();
        let found = flights.iter().filter(|flight| is_it(&flight.job));
        // Every one: a process may have several under way.
        found.filter(|flight| flight.job.ticket.interrupt()).count() > 0
    }

    /// There is one that nobody wants, and the loop does not know.
    pub(crate) fn has_unwanted(&self) -> bool {
        let is_news = |flight: &Flight| flight.noticed.is_none() && flight.job.is_unwanted();
        self.flights().iter().any(is_news)
    }

    /// There is one that is being cancelled.
    pub(crate) fn has_noticed(&self) -> bool {
        self.flights().iter().any(|flight| flight.noticed.is_some())
    }

    /// There is one that was cancelled in vain.
    pub(crate) fn has_lost(&self) -> bool {
        self.flights().iter().any(Flight::is_lost)
    }

    /// The loop has something to do about one of them.
    pub(crate) fn is_due(&self) -> bool {
        self.has_unwanted() || self.has_lost()
    }

    /// Takes off what does not land though it was cancelled a while ago: its task swallows that, or
    /// an exception has hit the loop where it would have gone on.
    fn take_lost(&self) -> Vec<Arc<Job>> {
        let mut lost = Vec::new();
        self.flights().retain(|flight| {
            let is_lost = flight.is_lost();
            if is_lost {
                lost.push(Arc::clone(&flight.job));
            }
            !is_lost
        });
        lost
    }

    fn take_notice(&self) -> Vec<Arc<Job>> {
        let mut unwanted = Vec::new();
        for flight in &mut *self.flights() {
            if flight.noticed.is_none() && flight.job.is_unwanted() {
                flight.noticed = Some(Instant::now());
                unwanted.push(Arc::clone(&flight.job));
            }
        }
        unwanted
    }

    fn flights(&self) -> MutexGuard<'_, Vec<Flight>> {
        // Whole after each operation, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    let _held = Held::new(py);
    // On the board first: the task may be done before this returns.
    lease.begin_flight(job);
    match module.call_method1(intern!(py, "begin"), args) {
        Ok(task) => {
            lease.listen(&bell(py)?);
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
                error.into()
            }
        })
    }
}

/// Called by the loop when its bell has rung while a call waits in it: `true` if nobody wants that one
/// any more.
#[pyfunction]
pub(crate) fn tend(py: Python<'_>) -> bool {
    let frame = Station::existing().and_then(|station| station.frame());
    let Some(frame) = frame else {
        return false;
    };
    if let Some(lease) = &frame.lease {
        cancel_unwanted(py, lease, &mut Outbox::new());
    }
    frame.job().is_some_and(|job| job.is_unwanted())
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
