//! The iterators of the streams of a lease, by the numbers of the streams.
//!
//! An iterator is live, running while a demand takes its items, or failed. Used by the worker of the
//! lease only, attached; blocks on nothing. The caller drops what it takes out, after the borrow, since
//! a finalizer may use the table.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::mem;

#[derive(Default)]
pub(crate) struct IteratorTable(RefCell<Vec<(u64, State)>>);

/// The state of one iterator.
pub(crate) enum State {
    Live(Source),
    /// The code of the iterator runs further down the C stack: it can be neither called nor closed.
    Running,
    /// The iterator has raised this exception after some items of a batch: the next demand gets it.
    Failed(PyErr),
}

/// An iterator. Which protocol it has is found out once, since its class may change later.
pub struct Source {
    pub(crate) object: Py<PyAny>,
    /// The object is a `Stream` of `async_stream.py`.
    pub(crate) is_asynchronous: bool,
}

impl IteratorTable {
    /// Adds a live iterator.
    pub(crate) fn keep(&self, id: u64, source: Source) {
        self.0.borrow_mut().push((id, State::Live(source)));
    }

    /// Removes an iterator, and returns its state.
    pub(crate) fn take(&self, id: u64) -> Option<State> {
        let mut iterators = self.0.borrow_mut();
        let index = iterators.iter().position(|(other, _)| *other == id)?;
        Some(iterators.remove(index).1)
    }

    /// Swaps the state of an iterator with `state`; `false` if the table does not have it.
    pub(crate) fn exchange(&self, id: u64, state: &mut State) -> bool {
        let mut iterators = self.0.borrow_mut();
        let entry = iterators.iter_mut().find(|(other, _)| *other == id);
        entry.map(|(_, kept)| mem::swap(kept, state)).is_some()
    }

    /// Returns the number of the iterator that was added last.
    pub(crate) fn youngest(&self) -> Option<u64> {
        self.0.borrow().last().map(|(id, _)| *id)
    }
}
