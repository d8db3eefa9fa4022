//! Runs a request in a namespace. Called by the host on the thread that serves the job, attached;
//! blocks as long as the code of the request does.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::namespace::Namespace;
use crate::python::code_cache::{self, Mode};

/// A request whose terms have become Python objects.
pub enum Request<'py, 'a> {
    /// Calls a function of a module.
    Call {
        callable: Bound<'py, PyAny>,
        args: Vec<Bound<'py, PyAny>>,
        kwargs: Option<Bound<'py, PyDict>>,
    },
    /// Evaluates an expression, or runs statements or a block.
    Run {
        mode: Mode,
        source: &'a str,
        locals: Option<Bound<'py, PyDict>>,
    },
}

/// Runs `request`, and returns what `finish` makes of its value. `finish` is called while the locals
/// of the request are still globals.
///
/// # Errors
/// The exception that the code has raised, or the error of `finish`.
pub fn execute<'py, T, E: From<PyErr>>(
    namespace: &Namespace<'py>,
    request: Request<'py, '_>,
    finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, E>,
) -> Result<T, E> {
    match request {
        Request::Call {
            callable,
            args,
            kwargs: None,
        } => finish(apply(&callable, args)?),
        Request::Call {
            callable,
            args,
            kwargs: Some(kwargs),
        } => {
            let args = PyTuple::new(callable.py(), args)?;
            finish(callable.call(args, Some(&kwargs))?)
        }
        Request::Run {
            mode,
            source,
            locals,
        } => run(namespace, mode, source, locals, finish),
    }
}

/// Returns a function of a module, which is imported if need be; `__main__` is the namespace.
/// `function` may be dotted: `path.join` of `os`.
///
/// # Errors
/// There is no such module, or no such attribute.
pub fn resolve<'py>(
    namespace: &Namespace<'py>,
    module: &Bound<'py, PyString>,
    function: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let found = if module == "__main__" {
        namespace.module.clone().into_any()
    } else if let Some(imported) = find_module(module)? {
        imported
    } else {
        module.py().import(module)?.into_any()
    };
    attribute(found, function)
}

/// Returns an attribute of an object. `path` may be dotted.
///
/// # Errors
/// There is no such attribute.
pub fn attribute<'py>(
    object: Bound<'py, PyAny>,
    path: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let names = path.to_cow()?;
    if !names.contains('.') {
        return object.getattr(path);
    }
    names
        .split('.')
        .try_fold(object, |object, name| object.getattr(name))
}

/// Evaluates an expression or runs statements. The locals of an expression become arguments of a
/// function where that can be; else they are globals for the time of the run.
fn run<'py, T, E: From<PyErr>>(
    namespace: &Namespace<'py>,
    mode: Mode,
    source: &str,
    locals: Option<Bound<'py, PyDict>>,
    finish: impl FnOnce(Bound<'py, PyAny>) -> Result<T, E>,
) -> Result<T, E> {
    let globals = &namespace.globals;
    let Some(locals) = locals else {
        let code = code_cache::compile(globals.py(), mode, source)?;
        return finish(code_cache::run(mode, &code, globals)?);
    };
    if matches!(mode, Mode::Eval)
        && let Some(function) = code_cache::closure(source, &locals, globals)?
    {
        let values: Vec<_> = locals.values().iter().collect();
        return finish(apply(&function, values)?);
    }
    let code = code_cache::compile(globals.py(), mode, source)?;
    namespace.with_locals(&locals, || finish(code_cache::run(mode, &code, globals)?))
}

/// Returns a module of `sys.modules`, or `None`. Waits, detached, while another thread imports it.
fn find_module<'py>(name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: attached; a new reference, or null with or without an exception set.
    let module = unsafe { ffi::PyImport_GetModule(name.as_ptr()) };
    // SAFETY: attached, and the call has passed its reference on.
    let module = unsafe { Bound::from_owned_ptr_or_opt(name.py(), module) };
    match PyErr::take(name.py()) {
        Some(error) => Err(error),
        // `None` in `sys.modules` forbids the import, which raises the error for it.
        None => Ok(module.filter(|module| !module.is_none())),
    }
}

/// Calls `callable` with positional arguments only, which the vector call passes without a tuple.
#[cfg(not(feature = "abi3"))]
fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; a `Bound` is a pointer to a live object, and `args` has `args.len()` of them.
    unsafe {
        let first = args.as_ptr().cast::<*mut ffi::PyObject>();
        let none = std::ptr::null_mut();
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), first, args.len(), none);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// Calls `callable` with positional arguments only.
#[cfg(feature = "abi3")]
fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    callable.call1(PyTuple::new(callable.py(), args)?)
}
