//! A queue whose items can be removed by key. The caller locks it: nothing here blocks. Used for the
//! jobs of a callback, and by the host for those of its pools and leases.

use std::collections::VecDeque;

/// The capacity that an empty queue keeps.
const KEPT: usize = 64;

/// First in, first out; `remove` takes an item from the middle.
pub struct Fifo<T> {
    /// Keys and items, in the order of the keys. A removed item leaves `None`, which is dropped when
    /// it is at the front, or when there are more of them than items and [`KEPT`].
    entries: VecDeque<(u64, Option<T>)>,
    next_key: u64,
    /// How many entries have an item.
    length: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            next_key: 0,
            length: 0,
        }
    }
}

impl<T> Fifo<T> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an item at the back, and returns its key for `remove`.
    pub fn push(&mut self, item: T) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.length += 1;
        self.entries.push_back((key, Some(item)));
        key
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<T> {
        let item = loop {
            let (_, item) = self.entries.pop_front()?;
            if item.is_some() {
                break item;
            }
        };
        self.shorten();
        item
    }

    /// Takes the first item for which `accepts` returns `true`.
    pub fn pop_if(&mut self, accepts: impl Fn(&T) -> bool) -> Option<T> {
        let is_accepted = |(_, item): &(u64, Option<T>)| item.as_ref().is_some_and(&accepts);
        let (key, _) = self.entries.iter().find(|entry| is_accepted(entry))?;
        self.remove(*key)
    }

    /// Takes the item with this key; `None` if the item was popped or removed before.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let index = self.entries.binary_search_by_key(&key, |(key, _)| *key);
        let item = self.entries.get_mut(index.ok()?)?.1.take()?;
        self.shorten();
        if self.entries.len() > 2 * self.length + KEPT {
            self.entries.retain(|(_, item)| item.is_some());
        }
        Some(item)
    }

    /// Counts an item less; frees the memory of a queue that is empty.
    fn shorten(&mut self) {
        self.length -= 1;
        if self.length == 0 {
            self.entries.clear();
            self.entries.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_items_take_no_memory_behind_one_that_waits() {
        let mut fifo = Fifo::default();
        fifo.push(0);
        for i in 1..100_000 {
            let key = fifo.push(i);
            assert_eq!(fifo.remove(key), Some(i));
        }
        assert!(fifo.entries.len() <= KEPT + 2);
        assert_eq!(fifo.pop(), Some(0));
    }
}
