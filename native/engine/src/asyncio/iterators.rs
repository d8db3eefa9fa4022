//! The iterators of streams: makes them, takes their items, closes them. Called on the worker of
//! their lease, attached; the namespace of the lease keeps them. Blocks as long as the code of an
//! iterator does. The table is never borrowed while Python code runs.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::event_loop;
use crate::host::Host;
use crate::interrupt::Interrupted;
use crate::namespace::Namespace;
use crate::namespace::iterator_table::{Source, State};

/// Items between two calls of `must_stop`.
const CHECK_INTERVAL: usize = 1 << 14;
/// Most items of one batch: no reply has room for more.
const MAX_ITEMS: usize = 1 << 25;

/// Makes the iterator of a value, by `aiter` or `iter`.
///
/// # Errors
/// The value is not iterable, or its code has raised an exception.
pub fn iterate(value: &Bound<'_, PyAny>) -> PyResult<Source> {
    let py = value.py();
    // Python looks for special methods in the class, not in the instance.
    let is_asynchronous = value.get_type().hasattr(intern!(py, "__aiter__"))?;
    let object = if is_asynchronous {
        // SAFETY: attached; a new reference, or null with an exception set.
        let iterator =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_GetAIter(value.as_ptr()))? };
        event_loop::stream(&iterator)?
    } else {
        value.try_iter()?.into_any()
    };
    Ok(Source {
        object: object.unbind(),
        is_asynchronous,
    })
}

/// Adds an iterator to the table of the namespace, under the number of its stream.
pub fn keep(namespace: &Namespace<'_>, id: u64, source: Source) {
    namespace.iterators.keep(id, source);
}

/// Returns at most `count` items; `None` at the end of the iterator, which is removed from the table
/// then. An exception after the first item is kept for the next call.
///
/// # Errors
/// The exception of the iterator; `Interrupted` if the job must stop.
pub fn next_batch<'py>(
    namespace: &Namespace<'py>,
    id: u64,
    count: usize,
    host: &dyn Host,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let (py, iterators) = (namespace.module.py(), &namespace.iterators);
    let mut state = State::Running;
    if !iterators.exchange(id, &mut state) {
        return Ok(None);
    }
    let source = match state {
        // An earlier demand is suspended on a C stack that `greenlet` has left; its job has been
        // replied to.
        State::Running => return Ok(None),
        State::Failed(error) => {
            drop(iterators.take(id));
            return Err(error);
        }
        State::Live(source) => source,
    };
    let items = PyList::empty(py);
    let ended = next_items(&source, &items, count, host);
    let is_interrupted = |error: &PyErr| error.is_instance_of::<Interrupted>(py);
    let (left, batch) = if host.must_stop() || ended.as_ref().is_err_and(is_interrupted) {
        // The iterator stays in the table, even at its end or after an exception of its own: the end
        // of the stream closes it.
        let error = ended.err().unwrap_or_else(|| Interrupted::new_err(()));
        (Some(State::Live(source)), Err(error))
    } else {
        match ended {
            Ok(true) if items.is_empty() => (None, Ok(None)),
            Ok(true) => (None, Ok(Some(items))),
            Ok(false) => (Some(State::Live(source)), Ok(Some(items))),
            Err(error) if items.is_empty() => (None, Err(error)),
            Err(error) => (Some(State::Failed(error)), Ok(Some(items))),
        }
    };
    match left {
        Some(mut state) => _ = iterators.exchange(id, &mut state),
        None => drop(iterators.take(id)),
    }
    batch
}

/// Appends at most `count` items; returns `true` at the end of the iterator.
fn next_items(
    source: &Source,
    items: &Bound<'_, PyList>,
    count: usize,
    host: &dyn Host,
) -> PyResult<bool> {
    let iterator = source.object.bind(items.py());
    if source.is_asynchronous {
        let next_items = intern!(items.py(), "next_items");
        return iterator.call_method1(next_items, (items, count))?.extract();
    }
    for index in 0..count {
        // An iterator in C may run no Python code, and only that can be interrupted.
        if index.is_multiple_of(CHECK_INTERVAL) && host.must_stop() {
            return Err(Interrupted::new_err(()));
        }
        if index >= MAX_ITEMS {
            return Err(PyOverflowError::new_err("too many items for one reply"));
        }
        let Some(item) = next_item(iterator)? else {
            return Ok(true);
        };
        items.append(item)?;
    }
    Ok(false)
}

/// Closes a generator or a `Stream`, so that its `finally` runs; and any object with a `close`, as a
/// file has, since its consumer has abandoned it.
fn close_source(source: &Source, py: Python<'_>) -> PyResult<()> {
    let iterator = source.object.bind(py);
    if source.is_asynchronous || iterator.hasattr(intern!(py, "close"))? {
        iterator.call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

/// Returns the next item, or `None` at the end.
fn next_item<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: attached, and a live object.
    if unsafe { ffi::PyIter_Check(iterator.as_ptr()) } == 0 {
        // Code has assigned to the `__class__` of the object since `iterate`.
        return Err(PyTypeError::new_err("not an iterator any more"));
    }
    // SAFETY: attached, and an iterator; a new reference, or null with or without an exception set.
    let item = unsafe {
        let item = ffi::PyIter_Next(iterator.as_ptr());
        Bound::from_owned_ptr_or_opt(py, item)
    };
    if item.is_none() {
        return PyErr::take(py).map_or(Ok(None), Err);
    }
    Ok(item)
}

/// Returns all items of an iterable, asynchronous or not.
///
/// # Errors
/// The exception of the iterator; `Interrupted` if the job must stop; `OverflowError` if there are too
/// many items.
pub fn collect<'py>(value: &Bound<'py, PyAny>, host: &dyn Host) -> PyResult<Bound<'py, PyList>> {
    let source = iterate(value)?;
    let items = PyList::empty(value.py());
    let most = if source.is_asynchronous {
        MAX_ITEMS
    } else {
        usize::MAX
    };
    next_items(&source, &items, most, host)?;
    Ok(items)
}

/// Removes the iterator of a stream that has ended, and closes it, so that its `finally` runs, unless
/// the iterator has failed, or its code runs further down the C stack.
pub fn close(namespace: &Namespace<'_>, id: u64) {
    let py = namespace.module.py();
    if let Some(State::Live(source)) = namespace.iterators.take(id)
        && let Err(error) = close_source(&source, py)
    {
        // No caller waits for this error: Python reports it like an error of `__del__`.
        error.write_unraisable(py, Some(source.object.bind(py)));
    }
}

/// Closes all iterators of a lease that ends, the youngest first.
pub fn close_all(namespace: &Namespace<'_>) {
    while let Some(id) = namespace.iterators.youngest() {
        close(namespace, id);
    }
}
