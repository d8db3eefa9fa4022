//! How many of our things are alive, so that a leak shows. Counted on whatever thread makes or
//! drops them.

use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) static JOBS: Census = Census::new();
pub(crate) static LEASES: Census = Census::new();
pub(crate) static OBJECTS: Census = Census::new();
pub(crate) static CALLBACKS: Census = Census::new();
pub(crate) static STREAMS: Census = Census::new();

pub(crate) struct Census(AtomicUsize);

impl Census {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts as long as what is returned lives.
    pub(crate) fn enter(&'static self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self)
    }
}

/// A field of what is counted.
pub(crate) struct Counted(&'static Census);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lives() {
        static THINGS: Census = Census::new();
        let first = THINGS.enter();
        let second = THINGS.enter();
        assert_eq!(THINGS.count(), 2);
        drop(first);
        assert_eq!(THINGS.count(), 1);
        drop(second);
        assert_eq!(THINGS.count(), 0);
    }
}
