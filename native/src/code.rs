//! Compiled code, kept per worker and found again by its source; and the source lines of the
//! frames that run it.
//!
//! Runs on workers, attached. The cache is thread-local, so it needs no lock, and no borrow of
//! it lasts while Python code runs.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The file name of the code that Erlang passed in.
pub(crate) const FILE: &str = "<erlang>";

/// Sources kept by a worker: more than a program's distinct snippets, few enough to scan.
const MAX_ENTRIES: usize = 256;
/// Bytes of source kept by a worker.
const MAX_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mode {
    Eval,
    Exec,
}

struct Entry {
    code: Py<PyAny>,
    last_use: u64,
}

#[derive(Default)]
struct Cache {
    eval: HashMap<Rc<str>, Entry>,
    exec: HashMap<Rc<str>, Entry>,
    bytes: usize,
    clock: u64,
}

static COMPILE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Finds `compile` before any code of a context can put itself in the way. Runs once.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    COMPILE.import(py, "builtins", "compile").map(|_| ())
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Drops what this worker has compiled; runs at its end.
pub(crate) fn forget() {
    drop(CACHE.take());
}

/// The code object of `source`, compiled at its first use.
pub(crate) fn compile<'py>(
    py: Python<'py>,
    mode: Mode,
    source: &str,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(code) = CACHE.with_borrow_mut(|cache| cache.find(py, mode, source)) {
        return Ok(code);
    }
    let compile = COMPILE.import(py, "builtins", "compile")?;
    let (text, mode_name) = match mode {
        // As `eval` itself does.
        Mode::Eval => (source.trim_start_matches([' ', '\t']), intern!(py, "eval")),
        Mode::Exec => (source, intern!(py, "exec")),
    };
    // No flags, and `dont_inherit`: the future statements of one snippet end with it.
    let code = compile.call1((text, FILE, mode_name, 0, true))?;
    // What the cache drops may run Python code, so it is dropped after the borrow.
    let dropped = CACHE.with_borrow_mut(|cache| cache.insert(mode, source, &code));
    drop(dropped);
    Ok(code)
}

/// Line `line` of the source that `code` was compiled from, if this worker still has it.
pub(crate) fn source_line(code: &Bound<'_, PyAny>, line: u32) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let file = code.getattr(intern!(code.py(), "co_filename")).ok()?;
    if file.cast::<PyString>().ok()? != FILE {
        return None;
    }
    let known: Vec<(Py<PyAny>, Rc<str>)> = CACHE.with_borrow(|cache| {
        let entries = cache.exec.iter().chain(cache.eval.iter());
        let clone = |(source, entry): (&Rc<str>, &Entry)| {
            (entry.code.clone_ref(code.py()), Rc::clone(source))
        };
        entries.map(clone).collect()
    });
    let is_home = |(root, _): &&(Py<PyAny>, Rc<str>)| contains(root.bind(code.py()), code);
    let (_, source) = known.iter().find(is_home)?;
    source.lines().nth(index).map(str::to_owned)
}

/// Whether `code` is `root`, or one of the functions, classes and comprehensions in it.
fn contains(root: &Bound<'_, PyAny>, code: &Bound<'_, PyAny>) -> bool {
    if root.is(code) {
        return true;
    }
    let Ok(constants) = root.getattr(intern!(root.py(), "co_consts")) else {
        return false;
    };
    let Ok(constants) = constants.cast::<PyTuple>() else {
        return false;
    };
    constants.iter().any(|constant| contains(&constant, code))
}

impl Cache {
    fn entries(&mut self, mode: Mode) -> &mut HashMap<Rc<str>, Entry> {
        match mode {
            Mode::Eval => &mut self.eval,
            Mode::Exec => &mut self.exec,
        }
    }

    fn find<'py>(
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

    fn insert(&mut self, mode: Mode, source: &str, code: &Bound<'_, PyAny>) -> Vec<Entry> {
        let mut dropped = Vec::new();
        if source.len() > MAX_BYTES {
            return dropped;
        }
        let last_use = self.clock;
        let code = code.clone().unbind();
        self.bytes += source.len();
        let old = self
            .entries(mode)
            .insert(source.into(), Entry { code, last_use });
        dropped.extend(old.inspect(|_| self.bytes -= source.len()));
        while self.eval.len() + self.exec.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            dropped.extend(self.evict());
        }
        dropped
    }

    fn evict(&mut self) -> Option<Entry> {
        let oldest = |entries: &HashMap<Rc<str>, Entry>| {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last_use);
            oldest.map(|(source, entry)| (entry.last_use, Rc::clone(source)))
        };
        let mode = match (oldest(&self.eval), oldest(&self.exec)) {
            (Some((eval, source)), Some((exec, _))) if eval <= exec => (Mode::Eval, source),
            (Some((_, source)), None) => (Mode::Eval, source),
            (_, Some((_, source))) => (Mode::Exec, source),
            (None, None) => return None,
        };
        self.bytes -= mode.1.len();
        self.entries(mode.0).remove(&mode.1)
    }
}
