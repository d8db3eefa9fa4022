//! `sys.stdout` and `sys.stderr`: one of each in the interpreter, so a context that replaces one
//! does so for all. What it has put there is taken away when it ends, and nothing else.
//!
//! Runs on workers, attached. A stream is known to be put by a context if it was not there before
//! one of its jobs, and was after. The lock is held for an operation on the list only.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::sync::{Mutex, MutexGuard};

use crate::lock::lock;

/// Replacements that are in force, oldest first.
static CHANGES: Mutex<Vec<Change>> = Mutex::new(Vec::new());

struct Change {
    /// Which namespace made it.
    owner: usize,
    stream: usize,
    found: Py<PyAny>,
    put: Py<PyAny>,
}

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
    pub(crate) fn note(&self, before: &Self, owner: usize) -> bool {
        let mut noted = false;
        for (stream, (put, found)) in self.0.iter().zip(&before.0).enumerate() {
            if !put.is(found) {
                let change = Change {
                    owner,
                    stream,
                    found: found.clone().unbind(),
                    put: put.clone().unbind(),
                };
                // What falls out is dropped after the lock: it may have a finalizer.
                drop(change.enter(&mut changes()));
                noted = true;
            }
        }
        noted
    }
}

impl Change {
    /// Returns what is of no use any more.
    fn enter(mut self, changes: &mut Vec<Self>) -> Option<Self> {
        let same = |change: &&mut Self| change.stream == self.stream;
        if changes
            .iter_mut()
            .filter(same)
            .any(|other| other.owner != self.owner && other.put.is(&self.put))
        {
            // Somebody else's, put there while this job ran.
            return Some(self);
        }
        let own = |change: &Self| {
            change.stream == self.stream && change.owner == self.owner && change.put.is(&self.found)
        };
        let Some(index) = changes.iter().rposition(own) else {
            changes.push(self);
            return None;
        };
        // One after the other, by the same context: one change; back again: none.
        if changes[index].found.is(&self.put) {
            return Some(changes.remove(index));
        }
        std::mem::swap(&mut changes[index].put, &mut self.put);
        Some(self)
    }
}

/// Takes away what `owner` has put there. What others have put over it stays, and will not bring
/// it back.
pub(crate) fn restore(sys: &Bound<'_, PyDict>, owner: usize) -> PyResult<()> {
    let py = sys.py();
    while let Some(change) = take(py, owner) {
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
fn take(py: Python<'_>, owner: usize) -> Option<Change> {
    let mut changes = changes();
    let index = changes.iter().rposition(|change| change.owner == owner)?;
    let taken = changes.remove(index);
    for later in &mut changes[index..] {
        if later.stream == taken.stream && later.found.is(&taken.put) {
            // The old value is `taken.put`, which is alive: nothing is freed under the lock.
            later.found = taken.found.clone_ref(py);
        }
    }
    Some(taken)
}

fn names(py: Python<'_>) -> [&Bound<'_, PyString>; 2] {
    [intern!(py, "stdout"), intern!(py, "stderr")]
}

fn changes() -> MutexGuard<'static, Vec<Change>> {
    lock(&CHANGES)
}
