//! Compiled code by its source, with a bound: what [`crate::python::code_cache`] keeps for all workers.
//! Called attached, under the lock of the cache.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::collections::HashMap;
use std::sync::Arc;

/// More than a program's distinct snippets, few enough to scan.
const MAX_ENTRIES: usize = 512;
/// Bytes of source.
const MAX_BYTES: usize = 1 << 21;
/// When that is too much, one part in so many goes at once: the releaser is woken once for many.
const GOES: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    Eval,
    Exec,
}

pub(crate) struct Entry {
    pub(crate) code: Py<PyAny>,
    last_use: u64,
    /// Where in `homes` it is: nowhere until an error asks.
    parts: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct CodeTable {
    eval: HashMap<Arc<str>, Entry>,
    exec: HashMap<Arc<str>, Entry>,
    /// By the address of a code object, which its entry keeps alive.
    homes: HashMap<usize, Arc<str>>,
    bytes: usize,
    clock: u64,
}

impl CodeTable {
    /// The source of which `code` is a part. Runs no code of a program: it asks nothing but code
    /// objects.
    pub(crate) fn home(
        &mut self,
        code: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
    ) -> Option<Arc<str>> {
        let entries = self.exec.iter_mut().chain(self.eval.iter_mut());
        for (source, entry) in entries.filter(|(_, entry)| entry.parts.is_empty()) {
            parts(entry.code.bind(code.py()), name, &mut entry.parts);
            let homes = entry.parts.iter().map(|part| (*part, Arc::clone(source)));
            self.homes.extend(homes);
        }
        self.homes.get(&(code.as_ptr() as usize)).cloned()
    }

    fn entries(&mut self, mode: Mode) -> &mut HashMap<Arc<str>, Entry> {
        match mode {
            Mode::Eval => &mut self.eval,
            Mode::Exec => &mut self.exec,
        }
    }

    pub(crate) fn find<'py>(
        &mut self,
        py: Python<'py>,
        mode: Mode,
        source: &str,
    ) -> Option<Bound<'py, PyAny>> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries(mode).get_mut(source)?;
        entry.last_use = clock;
        Some(entry.code.bind(py).clone())
    }

    pub(crate) fn insert(
        &mut self,
        mode: Mode,
        source: &str,
        code: &Bound<'_, PyAny>,
    ) -> Vec<Entry> {
        let mut dropped = Vec::new();
        if source.len() > MAX_BYTES {
            return dropped;
        }
        let last_use = self.clock;
        let code = code.clone().unbind();
        self.bytes += source.len();
        let entry = Entry {
            code,
            last_use,
            parts: Vec::new(),
        };
        let old = self.entries(mode).insert(source.into(), entry);
        dropped.extend(old.map(|old| self.forget(source, old)));
        if self.exceeds(MAX_ENTRIES, MAX_BYTES) {
            while self.exceeds(
                MAX_ENTRIES - MAX_ENTRIES / GOES,
                MAX_BYTES - MAX_BYTES / GOES,
            ) {
                dropped.extend(self.evict());
            }
        }
        dropped
    }

    fn exceeds(&self, entries: usize, bytes: usize) -> bool {
        self.eval.len() + self.exec.len() > entries || self.bytes > bytes
    }

    fn evict(&mut self) -> Option<Entry> {
        let oldest = |entries: &HashMap<Arc<str>, Entry>| {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last_use);
            oldest.map(|(source, entry)| (entry.last_use, Arc::clone(source)))
        };
        let mode = match (oldest(&self.eval), oldest(&self.exec)) {
            (Some((eval, source)), Some((exec, _))) if eval <= exec => (Mode::Eval, source),
            (Some((_, source)), None) => (Mode::Eval, source),
            (_, Some((_, source))) => (Mode::Exec, source),
            (None, None) => return None,
        };
        let entry = self.entries(mode.0).remove(&mode.1);
        entry.map(|entry| self.forget(&mode.1, entry))
    }

    fn forget(&mut self, source: &str, entry: Entry) -> Entry {
        self.bytes -= source.len();
        for part in &entry.parts {
            self.homes.remove(part);
        }
        entry
    }
}

/// The addresses of `code`, and of the functions, classes and comprehensions in it.
fn parts(code: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, found: &mut Vec<usize>) {
    found.push(code.as_ptr() as usize);
    let constants = code.getattr(name);
    let Ok(Ok(constants)) = constants.map(Bound::cast_into::<PyTuple>) else {
        return;
    };
    for constant in constants.iter_borrowed() {
        if constant.get_type().is(code.get_type()) {
            parts(&constant, name, found);
        }
    }
}
