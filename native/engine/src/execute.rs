//! Runs a request in a namespace. Runs on the thread that serves the job, attached.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::namespace::Namespace;
use crate::python::code_cache::{self, Mode, evaluate};

/// What a job asks for, as Python objects.
pub enum Request<'py, 'a> {
    /// Calls a function of a module.
    Call {
        callable: Bound<'py, PyAny>,
        args: Vec<Bound<'py, PyAny>>,
        kwargs: Option<Bound<'py, PyDict>>,
    },
    /// Evaluates an expression, or runs statements.
    Run {
        mode: Mode,
        source: &'a str,
        locals: Option<Bound<'py, PyDict>>,
    },
}

/// Runs `request`, and calls `finish` with its value while the locals of the request are there.
///
/// # Errors
/// What the code has raised, or what `finish` returned.
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

/// Finds a function of a module, which is imported if need be; `__main__` is the namespace.
/// `function` may be dotted: `path.join` of `os`.
///
/// # Errors
/// There is no such module, or no such attribute.
pub fn resolve<'py>(
    namespace: &Namespace<'py>,
    module: &Bound<'py, PyString>,
    function: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let home = if module == "__main__" {
        namespace.module.clone().into_any()
    } else if let Some(imported) = find_module(module)? {
        imported
    } else {
        module.py().import(module)?.into_any()
    };
    let path = function.to_cow()?;
    if !path.contains('.') {
        return home.getattr(function);
    }
    path.split('.')
        .try_fold(home, |object, name| object.getattr(name))
}

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
        return finish(evaluate(&code, globals)?);
    };
    if matches!(mode, Mode::Eval)
        && let Some(function) = code_cache::closure(source, &locals, globals)?
    {
        let values: Vec<_> = locals.values().iter().collect();
        return finish(apply(&function, values)?);
    }
    let code = code_cache::compile(globals.py(), mode, source)?;
    namespace.with_locals(&locals, || finish(evaluate(&code, globals)?))
}

/// A module that has been imported; waits for one that another thread is importing.
fn find_module<'py>(name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: attached; a new reference, or null with or without an exception set.
    let module = unsafe { ffi::PyImport_GetModule(name.as_ptr()) };
    // SAFETY: as above.
    let module = unsafe { Bound::from_owned_ptr_or_opt(name.py(), module) };
    match PyErr::take(name.py()) {
        Some(error) => Err(error),
        // `None` there means that it must not be imported: the import says so.
        None => Ok(module.filter(|module| !module.is_none())),
    }
}

/// Calls with positional arguments only.
#[cfg(not(feature = "abi3"))]
fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a `Bound` is a pointer to a live object, and `args` holds as many.
    unsafe {
        let first = args.as_ptr().cast::<*mut ffi::PyObject>();
        let none = std::ptr::null_mut();
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), first, args.len(), none);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

#[cfg(feature = "abi3")]
fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    callable.call1(PyTuple::new(callable.py(), args)?)
}
