//! The iterators of the streams of a lease, by the numbers of the streams. Used by the worker of the
//! lease only, attached; what is taken out is dropped by the caller, after the borrow.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::mem;

#[derive(Default)]
pub(crate) struct IteratorTable(RefCell<Vec<(u64, State)>>);

pub(crate) enum State {
    Live(Source),
    /// Its code is under way, further down this stack: it can be neither asked nor closed.
    Running,
    /// An exception that was raised after items that came before: for the next demand.
    Failed(PyErr),
}

/// An iterator. Its protocol is found out once, since its class may change later.
pub struct Source {
    pub(crate) object: Py<PyAny>,
    /// The object is a `Stream` of `event_loop.py`.
    pub(crate) is_asynchronous: bool,
}

impl IteratorTable {
    pub(crate) fn keep(&self, id: u64, source: Source) {
        self.0.borrow_mut().push((id, State::Live(source)));
    }

    pub(crate) fn take(&self, id: u64) -> Option<State> {
        let mut iterators = self.0.borrow_mut();
        let index = iterators.iter().position(|(other, _)| *other == id)?;
        Some(iterators.remove(index).1)
    }

    /// Swaps the state of an iterator; `false` if it is not there.
    pub(crate) fn exchange(&self, id: u64, state: &mut State) -> bool {
        let mut iterators = self.0.borrow_mut();
        let entry = iterators.iter_mut().find(|(other, _)| *other == id);
        entry.map(|(_, own)| mem::swap(own, state)).is_some()
    }

    pub(crate) fn youngest(&self) -> Option<u64> {
        self.0.borrow().last().map(|(id, _)| *id)
    }
}
