//! `sys.stdout` and `sys.stderr`: one of each in the interpreter, so a context that replaces one
//! does so for all. At its end the replacement is taken away, and nothing else.
//!
//! Called on workers, attached. A stream counts as put there by a context if it was not there before
//! one of its jobs, and was after. The list of changes is locked for an operation only.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::mem;

use crate::interpreter::{self, StreamChange};
use crate::lock::lock;

/// The two streams at some moment; `None` for one that was deleted.
pub(crate) struct Streams<'py>([Bound<'py, PyAny>; 2]);

impl<'py> Streams<'py> {
    pub(crate) fn now(sys: &Bound<'py, PyDict>) -> PyResult<Self> {
        let py = sys.py();
        let get = |name| Ok::<_, PyErr>(sys.get_item(name)?.unwrap_or(py.None().into_bound(py)));
        let [stdout, stderr] = names(py);
        Ok(Self([get(stdout)?, get(stderr)?]))
    }

    /// Notes what `owner` has put there since `before`; `false` if that is nothing.
    pub(crate) fn note(&self, before: &Self, owner: usize) -> PyResult<bool> {
        let mut noted = false;
        for (stream, (put, found)) in self.0.iter().zip(&before.0).enumerate() {
            if !put.is(found) {
                add(
                    put.py(),
                    StreamChange {
                        owner,
                        stream,
                        found: found.clone().unbind(),
                        put: put.clone().unbind(),
                    },
                )?;
                noted = true;
            }
        }
        Ok(noted)
    }
}

fn add(py: Python<'_>, mut new: StreamChange) -> PyResult<()> {
    // Dropped after the lock: a stream may have a finalizer.
    let unused;
    let mut changes = lock(&interpreter::find(py)?.stream_changes);
    let of_another = |old: &StreamChange| {
        old.stream == new.stream && old.owner != new.owner && old.put.is(&new.put)
    };
    if changes.iter().any(of_another) {
        // Another context has put it there while this job ran.
        unused = Some(new);
    } else if let Some(index) = changes.iter().rposition(|old| {
        old.stream == new.stream && old.owner == new.owner && old.put.is(&new.found)
    }) {
        // Two changes of one context, one after the other, are one; there and back again, none.
        if changes[index].found.is(&new.put) {
            unused = Some(changes.remove(index));
        } else {
            mem::swap(&mut changes[index].put, &mut new.put);
            unused = Some(new);
        }
    } else {
        changes.push(new);
        unused = None;
    }
    drop(changes);
    drop(unused);
    Ok(())
}

/// Takes away what `owner` has put there. What others have put over it stays, and will not bring
/// it back.
pub(crate) fn restore(sys: &Bound<'_, PyDict>, owner: usize) -> PyResult<()> {
    let py = sys.py();
    while let Some(change) = take(py, owner)? {
        let name = names(py)[change.stream];
        let now = sys.get_item(name)?;
        let is_there = now.map_or(change.put.is_none(py), |now| now.is(&change.put));
        if is_there {
            sys.set_item(name, &change.found)?;
        }
    }
    Ok(())
}

/// The newest change of `owner`, taken out of the chain.
fn take(py: Python<'_>, owner: usize) -> PyResult<Option<StreamChange>> {
    let mut changes = lock(&interpreter::find(py)?.stream_changes);
    let Some(index) = changes.iter().rposition(|change| change.owner == owner) else {
        return Ok(None);
    };
    let taken = changes.remove(index);
    for later in &mut changes[index..] {
        if later.stream == taken.stream && later.found.is(&taken.put) {
            // The old value is `taken.put`, which is alive: nothing is freed under the lock.
            later.found = taken.found.clone_ref(py);
        }
    }
    Ok(Some(taken))
}

fn names(py: Python<'_>) -> [&Bound<'_, PyString>; 2] {
    [intern!(py, "stdout"), intern!(py, "stderr")]
}
