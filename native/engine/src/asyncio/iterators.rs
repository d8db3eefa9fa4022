//! The iterators behind streams: their items, and their ends. Runs on the worker of their lease, in
//! whose namespace they are kept, attached. No borrow of the table lasts while Python code runs.

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

/// Items between two looks whether the job must stop.
const CHECK_INTERVAL: usize = 1 << 14;
/// Items of one batch: no reply has room for more.
const MAX_ITEMS: usize = 1 << 25;

/// The iterator of a value, asynchronous or not.
pub fn iterate(value: &Bound<'_, PyAny>) -> PyResult<Source> {
    let py = value.py();
    // Of the class, as Python does it.
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

pub fn keep(namespace: &Namespace<'_>, id: u64, source: Source) {
    namespace.iterators.keep(id, source);
}

/// At most `count` items; `None` at the end of the iterator, which is forgotten then.
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
        // A demand that was cut off with its stack by `greenlet`, and was told so.
        State::Running => return Ok(None),
        State::Failed(error) => {
            drop(iterators.take(id));
            return Err(error);
        }
        State::Live(source) => source,
    };
    let items = PyList::empty(py);
    let ended = next_items(&source, &items, count, host);
    let is_hit = |error: &PyErr| error.is_instance_of::<Interrupted>(py);
    let (left, batch) = if host.must_stop() || ended.as_ref().is_err_and(is_hit) {
        // Whatever it made of that, it is to be closed.
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

/// Appends so many; `true` at the end.
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
        // An iterator of C code runs no Python code, which alone can be interrupted; and nobody
        // can have so many.
        if index.is_multiple_of(CHECK_INTERVAL) && host.must_stop() {
            return Err(Interrupted::new_err(()));
        }
        if index > MAX_ITEMS {
            return Err(PyOverflowError::new_err("too many items for one reply"));
        }
        let Some(item) = next_item(iterator)? else {
            return Ok(true);
        };
        items.append(item)?;
    }
    Ok(false)
}

fn close_source(source: &Source, py: Python<'_>) -> PyResult<()> {
    let iterator = source.object.bind(py);
    if source.is_asynchronous || iterator.hasattr(intern!(py, "close"))? {
        // A generator; or a file, which its consumer has given up as well.
        iterator.call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

fn next_item<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: attached, and a live object.
    if unsafe { ffi::PyIter_Check(iterator.as_ptr()) } == 0 {
        // It was one, and has been given another class.
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

/// All items of an iterable, asynchronous or not.
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

/// Closes an iterator that is not asked any more, so that its `finally` runs.
pub fn close(namespace: &Namespace<'_>, id: u64) {
    let py = namespace.module.py();
    if let Some(State::Live(source)) = namespace.iterators.take(id)
        && let Err(error) = close_source(&source, py)
    {
        // No caller waits for it: it goes where Python sends those of `__del__`.
        error.write_unraisable(py, Some(source.object.bind(py)));
    }
}

/// Closes all iterators of a lease that ends, the youngest first.
pub fn close_all(namespace: &Namespace<'_>) {
    while let Some(id) = namespace.iterators.youngest() {
        close(namespace, id);
    }
}
