//! The one way to take a lock in these crates. Called on any thread; blocks while another thread holds
//! the lock, which no thread does while it attaches or runs Python code.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after a panic under it.
///
/// Every critical section of these crates leaves its data consistent after each statement, so a
/// poisoned lock is safe to use.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
