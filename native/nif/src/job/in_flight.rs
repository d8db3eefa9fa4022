//! The jobs of one lease that go on as asyncio tasks, as other threads see them. Used by scheduler
//! threads, the watchdog and the worker: locked for a look, never attached. Who takes a job out of the
//! list replies to it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use py_engine::host::Host;
use py_engine::lock::lock;

use super::Job;

/// How long a task that was cancelled may take to end, and keep its lease from being idle.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct InFlight(Mutex<Vec<Entry>>);

struct Entry {
    job: Arc<Job>,
    /// What the engine knows the task by.
    host: Arc<dyn Host>,
    /// When the event loop has begun to cancel the task.
    cancel_requested_at: Option<Instant>,
}

impl Entry {
    /// The task was cancelled a while ago, and has not ended.
    fn is_lost(&self) -> bool {
        self.cancel_requested_at
            .is_some_and(|since| since.elapsed() >= CANCEL_GRACE)
    }
}

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    pub(crate) fn add(&self, job: &Arc<Job>, host: &Arc<dyn Host>) {
        self.entries().push(Entry {
            job: Arc::clone(job),
            host: Arc::clone(host),
            cancel_requested_at: None,
        });
    }

    /// `true` for who takes it off, and has to end its job.
    pub(crate) fn remove(&self, job: &Arc<Job>) -> bool {
        let mut entries = self.entries();
        let found = entries
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.job, job));
        let removed = found.map(|index| entries.swap_remove(index));
        drop(entries);
        removed.is_some()
    }

    /// All of them, for who has to end their jobs.
    pub(crate) fn clear(&self) -> Vec<Arc<Job>> {
        let entries = std::mem::take(&mut *self.entries());
        entries.into_iter().map(|entry| entry.job).collect()
    }

    /// Nobody waits for any of them.
    pub(crate) fn interrupt_all(&self) {
        let interrupt = |entry: &Entry| _ = entry.job.ticket.interrupt();
        self.entries().iter().for_each(interrupt);
    }

    /// Interrupts the entry that `is_it` knows; `true` when its caller will hear of it.
    pub(crate) fn interrupt(&self, is_it: impl Fn(&Job) -> bool) -> bool {
        let entries = self.entries();
        let found = entries.iter().filter(|entry| is_it(&entry.job));
        // Every one: a process may have several under way.
        found.filter(|entry| entry.job.ticket.interrupt()).count() > 0
    }

    /// The jobs whose callers wait for `interrupted`.
    pub(crate) fn interrupted(&self) -> Vec<Arc<Job>> {
        let jobs = self.entries();
        let jobs = jobs.iter().map(|entry| &entry.job);
        let interrupted = jobs.filter(|job| job.ticket.is_interrupted());
        interrupted.cloned().collect()
    }

    /// There is one that nobody wants, and the loop does not know.
    pub(crate) fn must_cancel(&self) -> bool {
        let is_new = |entry: &Entry| entry.cancel_requested_at.is_none() && entry.job.must_stop();
        self.entries().iter().any(is_new)
    }

    /// There is one that is being cancelled.
    pub(crate) fn is_cancelling(&self) -> bool {
        self.entries()
            .iter()
            .any(|entry| entry.cancel_requested_at.is_some())
    }

    /// There is one that was cancelled in vain.
    pub(crate) fn has_lost(&self) -> bool {
        self.entries().iter().any(Entry::is_lost)
    }

    /// The loop has something to do about one of them.
    pub(crate) fn is_due(&self) -> bool {
        self.must_cancel() || self.has_lost()
    }

    /// Takes off what does not land though it was cancelled a while ago: its task swallows that, or
    /// an exception has hit the loop where it would have gone on.
    pub(crate) fn take_cancel_timeouts(&self) -> Vec<Arc<Job>> {
        let mut lost = Vec::new();
        self.entries().retain(|entry| {
            let is_lost = entry.is_lost();
            if is_lost {
                lost.push(Arc::clone(&entry.job));
            }
            !is_lost
        });
        lost
    }

    /// The tasks that must be cancelled, by what the engine knows them by. The event loop cancels
    /// them right after this.
    pub(crate) fn request_cancels(&self) -> Vec<Arc<dyn Host>> {
        let mut unwanted = Vec::new();
        for entry in &mut *self.entries() {
            if entry.cancel_requested_at.is_none() && entry.job.must_stop() {
                entry.cancel_requested_at = Some(Instant::now());
                unwanted.push(Arc::clone(&entry.host));
            }
        }
        unwanted
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.0)
    }
}
