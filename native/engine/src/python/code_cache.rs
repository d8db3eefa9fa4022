//! The cache of compiled code by its source, shared by all workers; and the source lines of that code
//! for tracebacks.
//!
//! Called on any thread, attached. A thread that locks the cache has the GIL and keeps it until it has
//! released the lock, so no thread ever waits for the lock.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString};
use std::sync::MutexGuard;

use crate::code_table::CodeTable;
use crate::interpreter::{self, Compiler};
use crate::lock::lock;
use crate::released;

pub use crate::code_table::Mode;

/// The file name of the code that Erlang passed in.
pub(crate) const FILE: &str = "<erlang>";

/// Looks up the functions of [`Compiler`]. Called once, by `start`.
pub(crate) fn find_compiler(py: Python<'_>) -> PyResult<Compiler> {
    let closure = load(py, "closure", include_str!("closure.py"))?;
    let block = load(py, "block", include_str!("block.py"))?;
    Ok(Compiler {
        compile: py.import("builtins")?.getattr("compile")?.unbind(),
        compile_closure: closure.getattr("compile_closure")?.unbind(),
        compile_block: block.getattr("compile_block")?.unbind(),
        function: py.import("types")?.getattr("FunctionType")?.unbind(),
    })
}

/// Makes a module of one of the Python files of this crate, outside of `sys.modules`.
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

/// Runs compiled code with `globals` as its globals and locals, and returns its value.
pub(crate) fn evaluate<'py>(
    code: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, code, globals) = (code.py(), code.as_ptr(), globals.as_ptr());
    // SAFETY: attached; `code` is what `compile` returned, `globals` is a dict, and the result
    // is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyEval_EvalCode(code, globals, globals)) }
}

/// Locks the cache. The caller must not release the GIL under the lock, and so must not run Python code,
/// nor make or drop an object that a collection may finalize.
fn cache(py: Python<'_>) -> PyResult<MutexGuard<'static, CodeTable>> {
    Ok(lock(&interpreter::find(py)?.code_table))
}

/// Returns the code object of `source`, or the pair of a block, which is compiled at its first use.
pub(crate) fn compile<'py>(
    py: Python<'py>,
    mode: Mode,
    source: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let known = cache(py)?.find(py, mode, source);
    if let Some(code) = known {
        return Ok(code);
    }
    let compiler = &interpreter::find(py)?.compiler;
    // No flags, and `dont_inherit`: a future statement holds for its own source only.
    let compile = |text, mode| compiler.compile.bind(py).call1((text, FILE, mode, 0, true));
    let code = match mode {
        Mode::Eval => compile(expression(source), intern!(py, "eval"))?,
        Mode::Exec => compile(source, intern!(py, "exec"))?,
        Mode::Block => compiler.compile_block.bind(py).call1((source, FILE))?,
    };
    keep(mode, source, &code)?;
    Ok(code)
}

/// Runs what [`compile`] has returned for `mode`. The value of a block is that of its last statement if
/// that is an expression, else `None`.
pub(crate) fn run<'py>(
    mode: Mode,
    code: &Bound<'py, PyAny>,
    globals: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    if !matches!(mode, Mode::Block) {
        return evaluate(code, globals);
    }
    let (statements, last): (Bound<'py, PyAny>, Bound<'py, PyAny>) = code.extract()?;
    let done = evaluate(&statements, globals)?;
    if last.is_none() {
        return Ok(done);
    }
    evaluate(&last, globals)
}

/// Returns a function of the names of `locals`, which returns the value of the expression `source` and
/// has the globals `globals`. `None` if the expression assigns, or a name cannot be a parameter.
pub(crate) fn closure<'py>(
    source: &str,
    locals: &Bound<'py, PyDict>,
    globals: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = locals.py();
    if source.contains(":=") {
        return Ok(None);
    }
    // The key begins with the source, so that the lines of the source keep their numbers.
    let mut key = format!("{source}\n\0");
    for name in locals.keys() {
        let name = name.cast::<PyString>()?.to_str()?;
        key.push_str(&format!("{}:{name}", name.len()));
    }
    let compiler = &interpreter::find(py)?.compiler;
    let known = cache(py)?.find(py, Mode::Eval, &key);
    let code = if let Some(code) = known {
        code
    } else {
        let args = (expression(source), locals.keys(), FILE);
        let code = compiler.compile_closure.bind(py).call1(args)?;
        if code.is_none() {
            return Ok(None);
        }
        keep(Mode::Eval, &key, &code)?;
        code
    };
    compiler.function.bind(py).call1((code, globals)).map(Some)
}

/// Removes leading blanks, as `eval` does.
fn expression(source: &str) -> &str {
    source.trim_start_matches([' ', '\t'])
}

/// Adds compiled code to the cache.
fn keep(mode: Mode, source: &str, code: &Bound<'_, PyAny>) -> PyResult<()> {
    let dropped = cache(code.py())?.insert(mode, source, code);
    // A weak reference to a code object may have a callback, which must not run in this job.
    dropped
        .into_iter()
        .for_each(|entry| released::release(entry.code));
    Ok(())
}

/// Returns line `line` of the source that `code` was compiled from, if the cache still has it.
pub(crate) fn source_line(code: &Bound<'_, PyAny>, line: u32) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    // Made before the lock: the first use of `intern!` may release the GIL.
    let constants = intern!(code.py(), "co_consts");
    let source = cache(code.py()).ok()?.source_of(code, constants)?;
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

/// Splits `source` after its first line, which ends as in Python with `\n`, `\r\n` or `\r`; `None` if it
/// has one line only.
fn split_line(source: &str) -> Option<(&str, &str)> {
    let (line, rest) = source.split_at(source.find(['\n', '\r'])?);
    let end = if rest.starts_with("\r\n") { 2 } else { 1 };
    Some((line, &rest[end..]))
}
