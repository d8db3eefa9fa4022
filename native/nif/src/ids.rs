//! Numbers that name one thing for the life of the VM.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that was not given before: a context of a pool that is gone must not name a lease of the
/// next pool, nor a stream another stream. Called on any thread.
pub(crate) fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
