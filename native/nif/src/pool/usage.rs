//! The usage of a lease: its number of jobs, whether it has ended, and whether its worker counts as
//! free. Decides every race between jobs that come and go, the end of the lease, the worker that
//! leaves it, and the watchdog in the place of that worker.
//!
//! ```text
//! in use, n jobs --end, n = 0--> ended, free
//!       \--------end, n > 0----> ended, n jobs --the worker has left, or is abandoned--> free
//! ```
//!
//! Called on scheduler threads, workers and the watchdog. The lock is held for a few instructions.

#[cfg(test)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(test))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

/// The bit of `active` that says that the lease has ended. It shares a word with the count, so that
/// no job comes between a look at the count and the end.
const ENDED: usize = 1 << (usize::BITS - 1);

pub(super) struct Usage {
    /// The number of jobs and tasks that were accepted and are not finished, and the bit `ENDED`.
    active: AtomicUsize,
    /// The number of jobs that have come so far, refused ones included.
    submitted: AtomicUsize,
    /// The worker counts as free again. Locked for a few instructions.
    is_free: Mutex<bool>,
}

/// The state in which the end of a lease has left its worker.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum End {
    /// No job was left: the worker counts as free from now on.
    Idle,
    /// The worker still has a job: a message to `py_pool` says when it is free.
    Busy,
    /// The lease had ended before.
    Already,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            active: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            is_free: Mutex::new(false),
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.active.load(Ordering::SeqCst) & ENDED != 0
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.load(Ordering::SeqCst) & !ENDED == 0
    }

    pub(super) fn submitted(&self) -> usize {
        self.submitted.load(Ordering::SeqCst)
    }

    /// Counts a job that comes; `false` if the lease has ended, so that the job is refused. Each
    /// `begin` is ended by one `finish`, of a refused job by the caller; the worker does not leave
    /// the lease before.
    pub(super) fn begin(&self) -> bool {
        // Counted before `active`: a lease that is seen idle after a job has counted that job here.
        self.submitted.fetch_add(1, Ordering::SeqCst);
        self.active.fetch_add(1, Ordering::SeqCst) & ENDED == 0
    }

    /// Counts the task of a job, which outlasts the job.
    pub(super) fn begin_task(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a job or a task as finished.
    pub(super) fn finish(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// Ends the lease. Calls `give_back`, which counts the worker as free, if no job is left.
    pub(super) fn end(&self, give_back: impl FnOnce()) -> End {
        let mut is_free = self.is_free();
        let active = self.active.fetch_or(ENDED, Ordering::SeqCst);
        if active & ENDED != 0 {
            End::Already
        } else if active == 0 {
            *is_free = true;
            give_back();
            End::Idle
        } else {
            End::Busy
        }
    }

    /// Ends the lease if it has no job and `submitted` jobs have come so far; `false` if it goes
    /// on. A `begin` before the exchange makes the exchange fail; a later one finds `ENDED`.
    pub(super) fn end_if_quiet(&self, submitted: usize, give_back: impl FnOnce()) -> bool {
        let mut is_free = self.is_free();
        let is_quiet = self.submitted() == submitted
            && self
                .active
                .compare_exchange(0, ENDED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if is_quiet {
            *is_free = true;
            give_back();
        }
        is_quiet
    }

    /// Calls `give_back`, which counts the worker as free, unless that was done before. Called when
    /// the worker has left the lease, or will never take it.
    pub(super) fn free(&self, give_back: impl FnOnce()) {
        if !std::mem::replace(&mut *self.is_free(), true) {
            give_back();
        }
    }

    fn is_free(&self) -> MutexGuard<'_, bool> {
        // A panic cannot leave a flag half changed.
        self.is_free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
