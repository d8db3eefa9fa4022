//! The bounded queues between callers and workers, and how an idle worker waits.
//!
//! Scheduler threads push and never block; a worker pops, detached from Python.

use crossbeam_channel::{Receiver, Sender, bounded};

pub(crate) struct Queue<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self { sender, receiver }
    }

    /// Gives the item back when the queue is full. Never blocks.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        self.sender.try_send(item).map_err(|e| e.into_inner())
    }

    /// Waits for an item: may block for ever, so the caller is detached from Python.
    /// `None` cannot be reached while this queue holds its own sender; it ends the wait anyway.
    pub(crate) fn wait(&self) -> Option<T> {
        self.receiver.recv().ok()
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_gives_the_item_back() {
        let queue = Queue::new(1);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(queue.wait(), Some(1));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn first_in_first_out() {
        let queue = Queue::new(3);
        for i in 0..3 {
            queue.push(i).unwrap();
        }
        let popped: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(popped, [0, 1, 2]);
    }
}
