//! The table of compiled code by its source, bounded: the data of [`crate::python::code_cache`], which
//! all workers share. Called attached, under the lock of the cache; blocks on nothing.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::collections::HashMap;
use std::sync::Arc;

/// Most entries: more than a program has distinct snippets, few enough to scan.
const MAX_ENTRIES: usize = 512;
/// Most bytes of source in all entries.
const MAX_BYTES: usize = 1 << 21;
/// An overflow evicts one fifth of the table, so that the releaser is woken once for many entries.
const EVICTED_SHARE: usize = 5;

/// How source is compiled: as one expression, as statements, or as a block: statements of which the last
/// one may be an expression.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    Eval,
    Exec,
    Block,
}

pub(crate) struct Entry {
    pub(crate) code: Py<PyAny>,
    /// The value of `CodeTable::clock` at the last use.
    last_use: u64,
    /// The keys of the entry in `sources`; empty until `source_of` is first called with the entry in
    /// the table.
    parts: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct CodeTable {
    eval: HashMap<Arc<str>, Entry>,
    exec: HashMap<Arc<str>, Entry>,
    /// The code of each is a pair, see `block.py`.
    block: HashMap<Arc<str>, Entry>,
    /// The source by the address of a code object, which its entry keeps alive.
    sources: HashMap<usize, Arc<str>>,
    bytes: usize,
    /// Counts the calls of `find`.
    clock: u64,
}

impl CodeTable {
    /// Returns the source that `code` was compiled from, as a whole or as a part. `name` is
    /// `co_consts`. Runs no code of a program: reads attributes of code objects only.
    pub(crate) fn source_of(
        &mut self,
        code: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
    ) -> Option<Arc<str>> {
        let others = self.eval.iter_mut().chain(self.block.iter_mut());
        let entries = self.exec.iter_mut().chain(others);
        for (source, entry) in entries.filter(|(_, entry)| entry.parts.is_empty()) {
            parts(entry.code.bind(code.py()), name, &mut entry.parts);
            let parts = entry.parts.iter().map(|part| (*part, Arc::clone(source)));
            self.sources.extend(parts);
        }
        self.sources.get(&(code.as_ptr() as usize)).cloned()
    }

    fn entries(&mut self, mode: Mode) -> &mut HashMap<Arc<str>, Entry> {
        match mode {
            Mode::Eval => &mut self.eval,
            Mode::Exec => &mut self.exec,
            Mode::Block => &mut self.block,
        }
    }

    /// Returns the code of `source`, and counts a use of it.
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

    /// Adds an entry. Returns the entries that were replaced or evicted, which the caller drops after
    /// the lock: a weak reference to a code object may have a callback.
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
                MAX_ENTRIES - MAX_ENTRIES / EVICTED_SHARE,
                MAX_BYTES - MAX_BYTES / EVICTED_SHARE,
            ) {
                dropped.extend(self.evict());
            }
        }
        dropped
    }

    fn exceeds(&self, entries: usize, bytes: usize) -> bool {
        self.eval.len() + self.exec.len() + self.block.len() > entries || self.bytes > bytes
    }

    /// Removes the entry that was not used for the longest time.
    fn evict(&mut self) -> Option<Entry> {
        let oldest = |mode: Mode, entries: &HashMap<Arc<str>, Entry>| {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last_use);
            oldest.map(|(source, entry)| (entry.last_use, mode, Arc::clone(source)))
        };
        let all = [
            oldest(Mode::Eval, &self.eval),
            oldest(Mode::Exec, &self.exec),
            oldest(Mode::Block, &self.block),
        ];
        let (_, mode, source) = all.into_iter().flatten().min_by_key(|(last, ..)| *last)?;
        let entry = self.entries(mode).remove(&source);
        entry.map(|entry| self.forget(&source, entry))
    }

    /// Uncounts an entry that was removed.
    fn forget(&mut self, source: &str, entry: Entry) -> Entry {
        self.bytes -= source.len();
        for part in &entry.parts {
            self.sources.remove(part);
        }
        entry
    }
}

/// Appends the addresses of `code`, and of the functions, classes and comprehensions in it. The code of
/// a block is a pair.
fn parts(code: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, found: &mut Vec<usize>) {
    if let Ok(pair) = code.cast::<PyTuple>() {
        let both = pair.iter_borrowed().filter(|part| !part.is_none());
        both.for_each(|part| parts(&part, name, found));
        return;
    }
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
