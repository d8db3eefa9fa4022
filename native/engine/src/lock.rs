//! The one way to take a lock in these crates.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after a panic under it.
///
/// Every critical section of these crates leaves its data whole after each statement, so a panic
/// spoils nothing that the next holder reads.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
