//! A queue whose items can be taken out by key, for a caller that has a lock of its own.

use std::collections::VecDeque;

/// Room for this many items is kept when a queue runs empty.
const KEPT: usize = 64;

/// First in, first out; an item that is not wanted any more is taken out by its key.
pub struct Fifo<T> {
    /// In the order of their keys. An item that was removed leaves `None`, which goes when it comes
    /// to the front, or when there are more of them than items.
    entries: VecDeque<(u64, Option<T>)>,
    next_key: u64,
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

    /// Returns the key of the item, for `remove`.
    pub fn push(&mut self, item: T) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.length += 1;
        self.entries.push_back((key, Some(item)));
        key
    }

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

    /// The first item that `is_it` accepts.
    pub fn pop_if(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let accepts = |(_, item): &(u64, Option<T>)| item.as_ref().is_some_and(&is_it);
        let (key, _) = self.entries.iter().find(|entry| accepts(entry))?;
        self.remove(*key)
    }

    /// `None` if the item was popped or removed before.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        let index = self.entries.binary_search_by_key(&key, |(key, _)| *key);
        let item = self.entries.get_mut(index.ok()?)?.1.take()?;
        self.shorten();
        if self.entries.len() > 2 * self.length + KEPT {
            self.entries.retain(|(_, item)| item.is_some());
        }
        Some(item)
    }

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
