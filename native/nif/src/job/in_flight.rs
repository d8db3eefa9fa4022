//! The tasks in flight of a lease: its jobs that go on as asyncio tasks, as other threads see them.
//!
//! States of an entry: in flight, its cancel requested, timed out. The thread that takes a job out
//! of the list replies to it, so each job gets one reply. Used by scheduler threads, the watchdog
//! and the worker; the lock is held for a look, and nothing attaches, blocks or sends.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use py_engine::host::Host;
use py_engine::lock::lock;

use super::Job;

/// How long a cancelled task may take to end before its caller gets the reply `interrupted`.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct InFlight(Mutex<Vec<Entry>>);

struct Entry {
    job: Arc<Job>,
    /// The host of the job, by which the engine knows the task.
    host: Arc<dyn Host>,
    since: Instant,
    /// When the cancel of the task was requested in the event loop; `None` before.
    cancel_requested_at: Option<Instant>,
}

impl Entry {
    /// Returns `true` if the task has not ended within `CANCEL_GRACE` of its cancel.
    fn has_timed_out(&self) -> bool {
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
            since: Instant::now(),
            cancel_requested_at: None,
        });
    }

    /// Returns the jobs, and since when each is a task.
    pub(crate) fn jobs(&self) -> Vec<(Arc<Job>, Instant)> {
        let job = |entry: &Entry| (Arc::clone(&entry.job), entry.since);
        self.entries().iter().map(job).collect()
    }

    /// Returns `true` if a job is on the list: it has no reply yet.
    pub(crate) fn contains(&self, job: &Arc<Job>) -> bool {
        self.entries()
            .iter()
            .any(|entry| Arc::ptr_eq(&entry.job, job))
    }

    /// Takes a job off the list; `true` if it was there, so that the calling thread has to reply to
    /// it.
    pub(crate) fn remove(&self, job: &Arc<Job>) -> bool {
        let mut entries = self.entries();
        let found = entries
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.job, job));
        let removed = found.map(|index| entries.swap_remove(index));
        drop(entries);
        removed.is_some()
    }

    /// Takes all jobs off the list. The calling thread has to reply to them.
    pub(crate) fn clear(&self) -> Vec<Arc<Job>> {
        let entries = std::mem::take(&mut *self.entries());
        entries.into_iter().map(|entry| entry.job).collect()
    }

    /// Interrupts all jobs. Called by the watchdog when the lease or its pool has ended.
    pub(crate) fn interrupt_all(&self) {
        let interrupt = |entry: &Entry| _ = entry.job.ticket.interrupt();
        self.entries().iter().for_each(interrupt);
    }

    /// Interrupts the jobs that `matches` accepts; `true` if a caller will get `interrupted`.
    pub(crate) fn interrupt(&self, matches: impl Fn(&Job) -> bool) -> bool {
        let entries = self.entries();
        let found = entries.iter().filter(|entry| matches(&entry.job));
        // `count` visits every job: a process may have several in flight.
        found.filter(|entry| entry.job.ticket.interrupt()).count() > 0
    }

    /// Returns the jobs whose callers wait for `interrupted`.
    pub(crate) fn interrupted(&self) -> Vec<Arc<Job>> {
        let jobs = self.entries();
        let jobs = jobs.iter().map(|entry| &entry.job);
        let interrupted = jobs.filter(|job| job.ticket.is_interrupted());
        interrupted.cloned().collect()
    }

    /// Returns `true` if a job must stop whose cancel was not requested yet.
    pub(crate) fn must_cancel(&self) -> bool {
        let is_new = |entry: &Entry| entry.cancel_requested_at.is_none() && entry.job.must_stop();
        self.entries().iter().any(is_new)
    }

    /// Returns `true` if the cancel of a job was requested, and its task has not ended.
    pub(crate) fn is_cancelling(&self) -> bool {
        self.entries()
            .iter()
            .any(|entry| entry.cancel_requested_at.is_some())
    }

    /// Returns `true` if a task has not ended within `CANCEL_GRACE` of its cancel.
    pub(crate) fn has_cancel_timeouts(&self) -> bool {
        self.entries().iter().any(Entry::has_timed_out)
    }

    /// Returns `true` if the event loop has to cancel a task, or to reply for one that does not
    /// end.
    pub(crate) fn is_due(&self) -> bool {
        self.must_cancel() || self.has_cancel_timeouts()
    }

    /// Takes the jobs off the list whose tasks have not ended within `CANCEL_GRACE` of their
    /// cancel: the task swallows it, or an exception has hit the loop where the task would have
    /// gone on.
    pub(crate) fn take_cancel_timeouts(&self) -> Vec<Arc<Job>> {
        let mut timed_out = Vec::new();
        self.entries().retain(|entry| {
            let has_timed_out = entry.has_timed_out();
            if has_timed_out {
                timed_out.push(Arc::clone(&entry.job));
            }
            !has_timed_out
        });
        timed_out
    }

    /// Returns the hosts of the tasks that must be cancelled, and marks their cancels as requested.
    /// The calling worker cancels them right after this.
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
