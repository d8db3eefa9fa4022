//! The iterators behind streams, kept by the worker whose lease they belong to. Runs on workers,
//! attached. No borrow of the table lasts while Python code runs.

use pyo3::exceptions::PyOverflowError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::cell::RefCell;

use crate::convert::{CHECK_INTERVAL, MAX_TERMS};
use crate::coroutines;
use crate::interrupt::Interrupted;
use crate::job::Job;

thread_local! {
    /// Oldest first.
    static ITERATORS: RefCell<Vec<(u64, State)>> = const { RefCell::new(Vec::new()) };
}

enum State {
    Live(Py<PyAny>),
    /// It has raised this after items that came before: the next demand gets it.
    Failed(PyErr),
}

/// What a demand brought.
pub(crate) enum Batch<'py> {
    Items(Bound<'py, PyList>),
    Done,
}

/// The iterator of a value, asynchronous or not.
pub(crate) fn iterate<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if value.hasattr(intern!(py, "__aiter__"))? {
        return value.call_method0(intern!(py, "__aiter__"));
    }
    Ok(value.try_iter()?.into_any())
}

pub(crate) fn keep(id: u64, iterator: Bound<'_, PyAny>) {
    let entry = (id, State::Live(iterator.unbind()));
    ITERATORS.with_borrow_mut(|iterators| iterators.push(entry));
}

/// So many items, or fewer if there are no more. What has ended is forgotten.
pub(crate) fn next_batch<'py>(
    py: Python<'py>,
    id: u64,
    count: usize,
    job: &Job,
) -> PyResult<Batch<'py>> {
    let iterator = match take(id) {
        None => return Ok(Batch::Done),
        Some(State::Failed(error)) => return Err(error),
        Some(State::Live(iterator)) => iterator,
    };
    let items = PyList::empty(py);
    let bound = iterator.bind(py);
    let is_asynchronous = bound.hasattr(intern!(py, "__anext__"))?;
    let ended = if is_asynchronous {
        coroutines::next_items(bound, &items, count)
    } else {
        next_items(bound, &items, count, job)
    };
    match ended {
        Ok(true) if items.is_empty() => return Ok(Batch::Done),
        Ok(true) => {}
        Ok(false) => put_back(id, State::Live(iterator)),
        Err(error) if items.is_empty() || error.is_instance_of::<Interrupted>(py) => {
            return Err(error);
        }
        Err(error) => put_back(id, State::Failed(error)),
    }
    Ok(Batch::Items(items))
}

/// `true` at the end.
fn next_items(
    iterator: &Bound<'_, PyAny>,
    items: &Bound<'_, PyList>,
    count: usize,
    job: &Job,
) -> PyResult<bool> {
    let py = iterator.py();
    for index in 0..count {
        // An iterator of C code runs no Python code, which alone can be interrupted; and nobody can
        // have so many.
        if index.is_multiple_of(CHECK_INTERVAL) && job.is_unwanted() {
            return Err(Interrupted::new_err(()));
        }
        if index > MAX_TERMS {
            return Err(PyOverflowError::new_err("too many items for one reply"));
        }
        // SAFETY: attached, and an iterator, or an object that raises; a new reference, or null with
        // or without an exception set.
        let item = unsafe {
            let item = ffi::PyIter_Next(iterator.as_ptr());
            Bound::from_owned_ptr_or_opt(py, item)
        };
        let Some(item) = item else {
            return PyErr::take(py).map_or(Ok(true), Err);
        };
        items.append(item)?;
    }
    Ok(false)
}

/// All items of an iterable, asynchronous or not.
pub(crate) fn collect<'py>(value: &Bound<'py, PyAny>, job: &Job) -> PyResult<Bound<'py, PyList>> {
    let iterator = iterate(value)?;
    let items = PyList::empty(value.py());
    if iterator.hasattr(intern!(value.py(), "__anext__"))? {
        coroutines::next_items(&iterator, &items, MAX_TERMS)?;
    } else {
        next_items(&iterator, &items, usize::MAX, job)?;
    }
    Ok(items)
}

/// Closes one that nobody will ask any more, so that its `finally` runs.
pub(crate) fn close(py: Python<'_>, id: u64) {
    if let Some(State::Live(iterator)) = take(id) {
        let iterator = iterator.bind(py);
        if let Err(error) = close_iterator(iterator) {
            // No caller waits for it: it goes where Python sends those of `__del__`.
            error.write_unraisable(py, Some(iterator));
        }
    }
}

/// The lease ends: the youngest first.
pub(crate) fn close_all(py: Python<'_>) {
    while let Some(id) = ITERATORS.with_borrow(|all| all.last().map(|(id, _)| *id)) {
        close(py, id);
    }
}

fn close_iterator(iterator: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = iterator.py();
    if iterator.hasattr(intern!(py, "__anext__"))? {
        if iterator.hasattr(intern!(py, "aclose"))? {
            let closing = iterator.call_method0(intern!(py, "aclose"))?;
            coroutines::complete(&closing)?;
        }
    } else if iterator.hasattr(intern!(py, "close"))? {
        // A generator; or a file, which its consumer has given up as well.
        iterator.call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

fn take(id: u64) -> Option<State> {
    ITERATORS.with_borrow_mut(|iterators| {
        let index = iterators.iter().position(|(other, _)| *other == id)?;
        Some(iterators.remove(index).1)
    })
}

/// An iterator is not in the table while it runs, so that code in it cannot close it under itself.
fn put_back(id: u64, state: State) {
    ITERATORS.with_borrow_mut(|iterators| iterators.push((id, state)));
}
