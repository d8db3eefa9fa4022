//! The jobs that the child has, and which of them must stop.
//!
//! The main thread begins and ends jobs; the control thread interrupts them. The lock is held for a few
//! instructions. An exception is requested under the lock, for the innermost job of the stack, and a job
//! leaves the stack under the lock: so no exception is requested for a job that has ended.

use once_cell::sync::OnceCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use py_engine::interrupt::{Thread, notify_interrupter};
use py_engine::lock::lock;
use py_engine::loop_waker::LoopWaker;

/// A job, also after it has become a task.
pub(crate) struct JobState {
    pub(crate) id: u64,
    /// The pid of the caller, in the external term format.
    pub(crate) caller: Vec<u8>,
    must_stop: AtomicBool,
    /// The job in the middle of which this one runs.
    parent: Option<Arc<JobState>>,
    /// Whether the cancel of the task was requested.
    pub(crate) is_cancelled: AtomicBool,
    /// Since when the job is known to have to stop.
    stops_since: OnceCell<Instant>,
}

impl JobState {
    pub(crate) fn new(id: u64, caller: Vec<u8>, parent: Option<Arc<JobState>>) -> Arc<Self> {
        Arc::new(Self {
            id,
            caller,
            must_stop: AtomicBool::new(false),
            parent,
            is_cancelled: AtomicBool::new(false),
            stops_since: OnceCell::new(),
        })
    }

    /// Whether the job runs in the middle of no other one.
    pub(crate) fn is_outermost(&self) -> bool {
        self.parent.is_none()
    }

    /// Whether this job, or one around it, must stop.
    pub(crate) fn must_stop(&self) -> bool {
        let parent = self.parent.as_ref();
        self.must_stop.load(Ordering::SeqCst) || parent.is_some_and(|parent| parent.must_stop())
    }

    /// Whether a job that must stop has gone on for longer than `patience` since that was seen.
    fn has_outlasted(&self, patience: Duration) -> bool {
        self.must_stop() && self.stops_since.get_or_init(Instant::now).elapsed() > patience
    }
}

pub(crate) struct Jobs {
    state: Mutex<State>,
    /// How long code has to stop, before the VM kills the process.
    pub(crate) grace: Duration,
}

/// The number of exceptions that are raised within the grace, for code that swallows them. Between two of
/// them the code has time to clean up after itself, as in the VM.
const INTERRUPTIONS: u32 = 20;

#[derive(Default)]
struct State {
    /// The jobs that the main thread is in the middle of, innermost last.
    stack: Vec<Arc<JobState>>,
    /// The jobs that go on as tasks.
    tasks: Vec<Arc<JobState>>,
    /// Interrupted jobs that the main thread has not read yet.
    early: HashSet<u64>,
    /// Since when the main thread cleans up.
    cleaning: Option<Instant>,
    cleaning_must_stop: bool,
    /// The waker of the loop that runs the tasks, once there has been one.
    tasks_loop: Option<Arc<LoopWaker>>,
    /// The job, or 0 for the clean-up, for which the last exception was requested, and when the next one
    /// is due. A task that was hit is on the list until the loop calls back: a second exception would hit
    /// another task.
    last_raise: Option<(u64, Instant)>,
}

impl Jobs {
    /// Makes the state of a child whose code has `grace` milliseconds to stop.
    pub(crate) fn new(grace: u64) -> Self {
        Self {
            state: Mutex::default(),
            grace: Duration::from_millis(grace),
        }
    }

    /// Adds a job to the stack. Called by the main thread.
    pub(crate) fn begin(&self, job: &Arc<JobState>) {
        let mut state = self.state();
        if state.early.remove(&job.id) {
            job.must_stop.store(true, Ordering::SeqCst);
        }
        if state.stack.is_empty() && state.tasks.is_empty() {
            // Interrupts that came after the ends of their jobs: numbers only grow.
            state.early.retain(|id| *id > job.id);
        }
        state.stack.push(Arc::clone(job));
    }

    /// Removes the job, and those within it, from the stack. No exception is requested for it from then
    /// on. Called by the main thread.
    pub(crate) fn end(&self, job: &Arc<JobState>) {
        let mut state = self.state();
        let at = state
            .stack
            .iter()
            .rposition(|other| Arc::ptr_eq(other, job));
        if let Some(at) = at {
            state.stack.truncate(at);
        }
        // The exception for a job was withdrawn with the one that has ended.
        let raised = state.last_raise.map(|(id, _)| id);
        if state.tasks.iter().all(|task| Some(task.id) != raised) {
            state.last_raise = None;
        }
    }

    /// Returns the innermost job of the stack.
    pub(crate) fn innermost(&self) -> Option<Arc<JobState>> {
        self.state().stack.last().cloned()
    }

    /// Whether there may be Python code that runs.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state();
        !state.stack.is_empty() || !state.tasks.is_empty() || state.cleaning.is_some()
    }

    pub(crate) fn begin_task(&self, job: &Arc<JobState>) {
        self.state().tasks.push(Arc::clone(job));
    }

    /// Says in which loop the tasks run.
    pub(crate) fn set_tasks_loop(&self, waker: Arc<LoopWaker>) {
        self.state().tasks_loop = Some(waker);
    }

    /// Removes a task; `true` if it was there, so that the calling thread has to reply.
    pub(crate) fn end_task(&self, job: &Arc<JobState>) -> bool {
        let mut state = self.state();
        let before = state.tasks.len();
        state.tasks.retain(|other| !Arc::ptr_eq(other, job));
        state.tasks.len() < before
    }

    /// Removes the tasks that have not ended by their cancels, while their loop has gone on. The calling
    /// thread has to reply for them.
    pub(crate) fn take_uncancelled(&self) -> Vec<Arc<JobState>> {
        let mut taken = Vec::new();
        self.state().tasks.retain(|task| {
            let is_taken =
                task.is_cancelled.load(Ordering::SeqCst) && task.has_outlasted(self.grace / 2);
            if is_taken {
                taken.push(Arc::clone(task));
            }
            !is_taken
        });
        taken
    }

    /// Removes all tasks.
    pub(crate) fn take_tasks(&self) -> Vec<Arc<JobState>> {
        std::mem::take(&mut self.state().tasks)
    }

    pub(crate) fn has_tasks(&self) -> bool {
        !self.state().tasks.is_empty()
    }

    /// Returns the tasks that must stop and were not cancelled before, and marks them.
    pub(crate) fn tasks_to_cancel(&self) -> Vec<Arc<JobState>> {
        let state = self.state();
        let wanted = |job: &&Arc<JobState>| {
            job.must_stop() && !job.is_cancelled.swap(true, Ordering::SeqCst)
        };
        state.tasks.iter().filter(wanted).cloned().collect()
    }

    /// Begins or ends the clean-up after a job or a lease.
    pub(crate) fn set_cleaning(&self, is_cleaning: bool) {
        let mut state = self.state();
        state.cleaning = is_cleaning.then(Instant::now);
        state.cleaning_must_stop = false;
    }

    /// Whether a clean-up goes on though exceptions were raised in it for as long as it had time before. Its process
    /// is of no use any more.
    pub(crate) fn is_cleaning_stuck(&self) -> bool {
        let since = self.state().cleaning;
        since.is_some_and(|since| since.elapsed() > self.grace * 2)
    }

    /// Marks a job, or for 0 the clean-up, as one that must stop. Called by the control thread.
    pub(crate) fn interrupt(&self, id: u64) {
        let mut state = self.state();
        if id == 0 {
            state.cleaning_must_stop = state.cleaning.is_some();
            return;
        }
        let mut jobs = state.stack.iter().chain(&state.tasks);
        match jobs.find(|job| job.id == id) {
            Some(job) => job.must_stop.store(true, Ordering::SeqCst),
            None => _ = state.early.insert(id),
        }
    }

    /// Whether a task that must stop keeps its loop, so that an exception has to be raised in the callback
    /// that runs. A busy loop takes a while to come to its cancels, and an exception could hit another task. A
    /// loop that has come to the cancel, and goes on, replies for the task before that is stuck.
    fn is_stuck(&self, task: &JobState) -> bool {
        let patience = if task.is_cancelled.load(Ordering::SeqCst) {
            self.grace * 3 / 4
        } else {
            self.grace / 2
        };
        task.has_outlasted(patience)
    }

    /// Makes what must stop stop: requests an exception in the main thread, or wakes its event loop for
    /// a task. Returns `true` if there is something that must stop. Called by the control thread, again
    /// and again while it returns `true`.
    pub(crate) fn stop(&self, main: &Thread) -> bool {
        let mut state = self.state();
        let running = main.loop_waker();
        let runs_tasks = !state.tasks.is_empty()
            && match (&running, &state.tasks_loop) {
                (Some(running), Some(tasks)) => Arc::ptr_eq(running, tasks),
                _ => false,
            };
        let innermost = state.stack.last().filter(|job| job.must_stop());
        let cleaning = state.cleaning.is_some() && state.cleaning_must_stop;
        let stuck = match innermost {
            _ if cleaning => Some(0),
            // A call that runs the loop of the tasks is cancelled by the loop, if that is not stuck.
            Some(job) => (!runs_tasks || job.has_outlasted(self.grace / 2)).then_some(job.id),
            // Jobs that wait in the stack are interrupted when they go on.
            None if runs_tasks || state.stack.is_empty() => {
                let stuck = state.tasks.iter().find(|task| self.is_stuck(task));
                stuck.map(|task| task.id)
            }
            None => None,
        };
        let must_stop = cleaning
            || state
                .stack
                .iter()
                .chain(&state.tasks)
                .any(|job| job.must_stop());
        if let Some(id) = stuck {
            self.raise(&mut state, id, main, running.as_ref());
        } else if must_stop && let Some(waker) = running {
            waker.wake();
        }
        must_stop
    }

    /// Requests an exception in the main thread, unless the last one for the same job was just now, or
    /// another loop runs than `running`: the next call of `stop` decides again.
    fn raise(&self, state: &mut State, id: u64, main: &Thread, running: Option<&Arc<LoopWaker>>) {
        let now = Instant::now();
        let is_due = |(last, next): (u64, Instant)| last != id || next <= now;
        if state.last_raise.is_none_or(is_due) && main.request(running) {
            state.last_raise = Some((id, now + self.grace / INTERRUPTIONS));
            notify_interrupter();
        }
        // The signal before this one may have come before the exception, and a sleep has gone on.
        main.signal();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
