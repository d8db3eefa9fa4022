//! How many of the values that Erlang holds are alive, so that a leak shows. Counted on whatever thread
//! makes or drops them.

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

    /// Counts one more as long as the guard lives.
    pub(crate) fn enter(&'static self) -> CountGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountGuard(self)
    }
}

/// A field of what is counted.
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
