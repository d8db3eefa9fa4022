//! The bounded queues between callers and workers: first in, first out, and a cancelled item is
//! taken out by its key. Called on scheduler threads, workers and the watchdog; nothing blocks for
//! longer than one operation. Workers wait in [`crate::gil`], not here.

use py_engine::host::fifo::Fifo;
use py_engine::lock::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// A bounded queue, which takes memory for the items that are in it only.
pub(crate) struct Queue<T> {
    fifo: Mutex<Fifo<T>>,
    /// The length of `fifo`, to be read without the lock.
    length: AtomicUsize,
    capacity: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            fifo: Mutex::default(),
            length: AtomicUsize::new(0),
            capacity,
        }
    }

    /// Returns the key of the item, or gives the item back when the queue is full.
    pub(crate) fn push(&self, item: T) -> Result<u64, T> {
        let mut fifo = self.fifo();
        if fifo.len() >= self.capacity {
            return Err(item);
        }
        Ok(self.add(&mut fifo, item))
    }

    fn add(&self, fifo: &mut Fifo<T>, item: T) -> u64 {
        let key = fifo.push(item);
        self.length.store(fifo.len(), Ordering::SeqCst);
        key
    }

    pub(crate) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        self.take(Fifo::pop)
    }

    /// Takes the first item that `matches` accepts; the others keep their order.
    pub(crate) fn pop_if(&self, matches: impl Fn(&T) -> bool) -> Option<T> {
        self.take(|fifo| fifo.pop_if(matches))
    }

    /// Takes an item by its key; `None` if it was popped or removed before.
    pub(crate) fn remove(&self, key: u64) -> Option<T> {
        self.take(|fifo| fifo.remove(key))
    }

    fn take(&self, take: impl FnOnce(&mut Fifo<T>) -> Option<T>) -> Option<T> {
        let mut fifo = self.fifo();
        let item = take(&mut fifo);
        self.length.store(fifo.len(), Ordering::SeqCst);
        item
    }

    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fifo(&self) -> MutexGuard<'_, Fifo<T>> {
        lock(&self.fifo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_gives_the_item_back() {
        let queue = Queue::new(1);
        assert!(queue.is_empty());
        assert_eq!(queue.push(1), Ok(0));
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.push(3), Ok(1));
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

    #[test]
    fn a_removed_item_makes_room_for_another() {
        let queue = Queue::new(2);
        let first = queue.push('a').unwrap();
        queue.push('b').unwrap();
        assert_eq!(queue.remove(first), Some('a'));
        assert_eq!(queue.remove(first), None);
        queue.push('c').unwrap();
        assert_eq!(queue.push('d'), Err('d'));
        assert_eq!(queue.pop(), Some('b'));
        assert_eq!(queue.pop(), Some('c'));
        assert!(queue.is_empty());
    }
}
