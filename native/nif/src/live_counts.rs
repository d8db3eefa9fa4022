//! Counters of the live values that Erlang holds, so that a leak shows. Changed on the thread that
//! makes or drops a value, read by the NIF `resources`; nothing blocks.

use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct LiveCounts {
    pub(crate) jobs: LiveCount,
    pub(crate) leases: LiveCount,
    pub(crate) objects: LiveCount,
    pub(crate) callbacks: LiveCount,
    pub(crate) streams: LiveCount,
}

impl LiveCounts {
    pub(crate) const fn new() -> Self {
        Self {
            jobs: LiveCount::new(),
            leases: LiveCount::new(),
            objects: LiveCount::new(),
            callbacks: LiveCount::new(),
            streams: LiveCount::new(),
        }
    }
}

pub(crate) struct LiveCount(AtomicUsize);

impl LiveCount {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one value more until the guard is dropped.
    pub(crate) fn enter(&'static self) -> CountGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountGuard(self)
    }
}

/// The guard that a counted value has as a field.
pub(crate) struct CountGuard(&'static LiveCount);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lives() {
        static THINGS: LiveCount = LiveCount::new();
        let first = THINGS.enter();
        let second = THINGS.enter();
        assert_eq!(THINGS.count(), 2);
        drop(first);
        assert_eq!(THINGS.count(), 1);
        drop(second);
        assert_eq!(THINGS.count(), 0);
    }
}
