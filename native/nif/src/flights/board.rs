//! The flights of one lease, as others see them. Looked at by scheduler threads and the watchdog:
//! locked for a look, never attached.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::job::Job;

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
    pub(super) fn remove(&self, job: &Arc<Job>) -> bool {
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

    /// The jobs whose callers wait for `interrupted`.
    pub(crate) fn interrupted(&self) -> Vec<Arc<Job>> {
        let jobs = self.flights();
        let jobs = jobs.iter().map(|flight| &flight.job);
        let interrupted = jobs.filter(|job| job.ticket.is_interrupted());
        interrupted.cloned().collect()
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
    pub(super) fn take_lost(&self) -> Vec<Arc<Job>> {
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

    pub(super) fn take_notice(&self) -> Vec<Arc<Job>> {
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
