//! Compiled code, kept for all workers and found again by its source; and the source lines of the
//! frames that run it.
//!
//! Runs on workers, attached. Whoever locks the cache has the GIL and keeps it until the lock is
//! free again, so nobody ever waits for the lock.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use crate::interpreter::{self, Compiler};
use crate::lock::lock;
use crate::released;

/// The file name of the code that Erlang passed in.
pub(crate) const FILE: &str = "<erlang>";

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

struct Entry {
    code: Py<PyAny>,
    last_use: u64,
    /// Where in `homes` it is: nowhere until an error asks.
    parts: Vec<usize>,
}

#[derive(Default)]
struct Cache {
    eval: HashMap<Arc<str>, Entry>,
    exec: HashMap<Arc<str>, Entry>,
    /// By the address of a code object, which its entry keeps alive.
    homes: HashMap<usize, Arc<str>>,
    bytes: usize,
    clock: u64,
}

/// Finds what compiles. Called once.
pub(crate) fn find_compiler(py: Python<'_>) -> PyResult<Compiler> {
    let closure = load(py, "closure", include_str!("closure.py"))?;
    Ok(Compiler {
        compile: py.import("builtins")?.getattr("compile")?.unbind(),
        compile_closure: closure.getattr("compile_closure")?.unbind(),
        function: py.import("types")?.getattr("FunctionType")?.unbind(),
    })
}

/// Makes a module of one of the Python files of this crate.
pub(crate) fn load<'py>(
    py: Python<'py>,
    name: &str,
    source: &str,
) -> PyResult<Bound<'py, PyModule>> {
    let builtins = py.import("builtins")?;
    let file = format!("<erlang_python/{name}.py>");
    let code = builtins.call_method1("compile", (source, file, "exec", 0, true))?;
    let module = PyModule::new(py, &format!("erlang._{name}"))?;
    module.dict().set_item("__builtins__", &builtins)?;
    evaluate(&code, &module.dict())?;
    Ok(module)
}

/// Runs compiled code with `globals` as its globals and locals.
pub(crate) fn evaluate<'py>(
    code: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, code, globals) = (code.py(), code.as_ptr(), globals.as_ptr());
    // SAFETY: attached; `code` is what `compile` returned, `globals` is a dict, and the result
    // is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyEval_EvalCode(code, globals, globals)) }
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

fn cache() -> MutexGuard<'static, Cache> {
    lock(&CACHE)
}

/// The code object of `source`, compiled at its first use.
pub(crate) fn compile<'py>(
    py: Python<'py>,
    mode: Mode,
    source: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let known = cache().find(py, mode, source);
    if let Some(code) = known {
        return Ok(code);
    }
    let (text, mode_name) = match mode {
        Mode::Eval => (expression(source), intern!(py, "eval")),
        Mode::Exec => (source, intern!(py, "exec")),
    };
    // No flags, and `dont_inherit`: the future statements of one snippet end with it.
    let compile = interpreter::find(py)?.compiler.compile.bind(py);
    let code = compile.call1((text, FILE, mode_name, 0, true))?;
    keep(mode, source, &code);
    Ok(code)
}

/// A function of the variables that `locals` names, which gives the value of an expression, with
/// `globals` as its globals. `None` for an expression that assigns, or names that are no names.
pub(crate) fn closure<'py>(
    source: &str,
    locals: &Bound<'py, PyDict>,
    globals: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = locals.py();
    if source.contains(":=") {
        return Ok(None);
    }
    // Behind the source: its lines keep their numbers.
    let mut key = format!("{source}\n\0");
    for name in locals.keys() {
        let name = name.cast::<PyString>()?.to_str()?;
        key.push_str(&format!("{}:{name}", name.len()));
    }
    let tools = &interpreter::find(py)?.compiler;
    let known = cache().find(py, Mode::Eval, &key);
    let code = if let Some(code) = known {
        code
    } else {
        let args = (expression(source), locals.keys(), FILE);
        let code = tools.compile_closure.bind(py).call1(args)?;
        if code.is_none() {
            return Ok(None);
        }
        keep(Mode::Eval, &key, &code);
        code
    };
    tools.function.bind(py).call1((code, globals)).map(Some)
}

/// As `eval` itself does.
fn expression(source: &str) -> &str {
    source.trim_start_matches([' ', '\t'])
}

fn keep(mode: Mode, source: &str, code: &Bound<'_, PyAny>) {
    let dropped = cache().insert(mode, source, code);
    // Code may have asked to be told of the end of a code object, which is no business of this job.
    dropped
        .into_iter()
        .for_each(|entry| released::release(entry.code));
}

/// Line `line` of the source that `code` was compiled from, if it is still kept.
pub(crate) fn source_line(code: &Bound<'_, PyAny>, line: u32) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    // Made first: at its first use it gives the GIL away, which whoever locks must not.
    let constants = intern!(code.py(), "co_consts");
    let source = cache().home(code, constants)?;
    if !source.contains('\r') {
        return source.lines().nth(index).map(str::to_owned);
    }
    let mut rest = &*source;
    for _ in 0..index {
        let (_, after) = split_line(rest)?;
        rest = after;
    }
    let line = split_line(rest).map_or(rest, |(line, _)| line);
    Some(line.to_owned())
}

/// The first line of `source`, and what comes after its end: `\n`, `\r\n` or `\r`, as for Python.
fn split_line(source: &str) -> Option<(&str, &str)> {
    let (line, rest) = source.split_at(source.find(['\n', '\r'])?);
    let end = if rest.starts_with("\r\n") { 2 } else { 1 };
    Some((line, &rest[end..]))
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

impl Cache {
    /// The source of which `code` is a part. Runs no code of a program: it asks nothing but code
    /// objects.
    fn home(&mut self, code: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> Option<Arc<str>> {
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
