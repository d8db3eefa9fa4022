//! The bounded queues between callers and workers. Nothing here blocks: how a worker waits is
//! the business of [`crate::turn`].

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes memory for what is in it, not for what might be.
pub(crate) struct Queue<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    length: AtomicUsize,
    capacity: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let (sender, receiver) = unbounded();
        Self {
            sender,
            receiver,
            length: AtomicUsize::new(0),
            capacity,
        }
    }

    /// Gives the item back when the queue is full.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        if self.length.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.length.fetch_sub(1, Ordering::Relaxed);
            return Err(item);
        }
        self.sender.try_send(item).map_err(|e| e.into_inner())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let item = self.receiver.try_recv().ok()?;
        self.length.fetch_sub(1, Ordering::Relaxed);
        Some(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_gives_the_item_back() {
        let queue = Queue::new(1);
        assert!(queue.is_empty());
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.push(3), Ok(()));
    }

    #[test]
    fn first_in_first_out() {
        let queue = Queue::new(100);
        for i in 0..100 {
            queue.push(i).unwrap();
        }
        let popped: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(popped, Vec::from_iter(0..100));
    }
}
