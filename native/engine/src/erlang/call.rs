//! `erlang.call`: a call of an Erlang function, and the wait for the answer, during which the thread
//! runs the jobs of the process of the callback.
//!
//! Called on any thread that runs Python code, attached. The wait detaches, in [`Host::park`].

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyTuple};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::new_error;
use crate::asyncio;
use crate::host::callback::{Answer, Callback, Ended, Event};
use crate::host::{Function, Host};
use crate::interpreter;
use crate::interrupt::{self, Interrupted, Thread};

pub(super) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("call", wrap_pyfunction!(call, module)?)?;
    module.setattr("_wait_down", wrap_pyfunction!(wait_down, module)?)?;
    module.setattr("_state", wrap_pyfunction!(state, module)?)?;
    module.setattr("_apply", wrap_pyfunction!(apply, module)?)
}

/// Calls the Erlang function that is registered as `name`, and returns its value.
#[pyfunction]
#[pyo3(signature = (name, /, *args, **kwargs))]
fn call<'py>(
    py: Python<'py>,
    name: &str,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let host = asyncio::host(py)?;
    check_registered(py, &*host, name)?;
    let (function, args) = with_keywords(name, args, kwargs)?;
    call_and_wait(&*host, function, &args)
}

/// Returns the function of a call, and its arguments in the form that the function takes.
pub(super) fn with_keywords<'a, 'py>(
    name: &'a str,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<(Function<'a>, Bound<'py, PyTuple>)> {
    let Some(kwargs) = kwargs.filter(|kwargs| !kwargs.is_empty()) else {
        return Ok((Function::Registered(name), args.clone()));
    };
    let both = [args.to_list().into_any(), kwargs.clone().into_any()];
    let both = PyTuple::new(args.py(), both)?;
    Ok((Function::WithKeywords(name), both))
}

/// Makes the exception for a registered function that takes no keyword arguments.
#[must_use]
pub fn no_keywords(function: Function<'_>) -> PyErr {
    let name = function.name().unwrap_or_default();
    PyTypeError::new_err(format!("{name}() takes no keyword arguments"))
}

/// Waits until a monitored process has ended, or for a number of milliseconds; see `module.py`.
#[pyfunction]
fn wait_down<'py>(py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    call_and_wait(&*asyncio::host(py)?, Function::WaitDown, args)
}

/// Runs an operation on the shared state; see `module.py`.
#[pyfunction]
#[pyo3(signature = (*args))]
fn state<'py>(py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    call_and_wait(&*asyncio::host(py)?, Function::State, args)
}

/// Calls a function of a module of Erlang; see `module.py`.
#[pyfunction]
#[pyo3(signature = (*args))]
fn apply<'py>(py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    call_and_wait(&*asyncio::host(py)?, Function::Apply, args)
}

/// Returns `NotRegistered` as an error if no function is registered as `name`.
pub(super) fn check_registered(py: Python<'_>, host: &dyn Host, name: &str) -> PyResult<()> {
    if host.is_registered(name) {
        return Ok(());
    }
    let text = format!("no Erlang function is registered as '{name}'");
    Err(not_registered(py, &text))
}

/// Makes an instance of `erlang.NotRegistered`.
#[must_use]
pub fn not_registered(py: Python<'_>, text: &str) -> PyErr {
    new_error(py, |classes| &classes.not_registered, (text,))
}

/// Calls a function of Erlang, and waits for the answer.
fn call_and_wait<'py>(
    host: &dyn Host,
    function: Function<'_>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = args.py();
    let callback = Callback::new(next_id(py)?, host.waker());
    host.call(function, args, &callback)?;
    let mut call = EndGuard {
        host,
        callback: &callback,
        is_answered: false,
    };
    let answer = wait(py, host, &callback);
    call.is_answered = answer.is_ok();
    drop(call);
    answer?.value(py, function, host)
}

/// Returns a number that no other call and no monitor of the program has.
///
/// # Errors
/// Python has not been set up.
pub fn next_id(py: Python<'_>) -> PyResult<u64> {
    let next_call = &interpreter::find(py)?.next_call;
    Ok(next_call.fetch_add(1, Ordering::Relaxed))
}

/// Ends the call when the guard is dropped, also by a panic.
struct EndGuard<'a> {
    host: &'a dyn Host,
    callback: &'a Callback,
    is_answered: bool,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        end(self.host, self.callback, self.is_answered);
    }
}

/// Ends a call: refuses the jobs that were not run and all later ones; if the call has no answer, the
/// host ends the process of the callback.
pub(super) fn end(host: &dyn Host, callback: &Callback, is_answered: bool) {
    callback.end();
    if !is_answered {
        host.end_call(callback);
    }
}

/// Waits for the answer, and runs the jobs that come before it.
///
/// # Errors
/// The exception that was raised in this thread; `Interrupted` if the thread was abandoned.
fn wait(py: Python<'_>, host: &dyn Host, callback: &Arc<Callback>) -> PyResult<Box<dyn Answer>> {
    let waiting = Waiting::begin(callback);
    loop {
        if callback.take_interrupt()
            && let Some(error) = interrupt::take(py)
        {
            return Err(error);
        }
        match callback.take() {
            Some(Event::Answer(answer)) => {
                drop(waiting);
                return Ok(answer);
            }
            Some(Event::Job(job)) => match job.run(py) {
                Ok(()) => {}
                // Another thread has replaced this one, so the code that waits must end as well.
                Err(Ended::Abandoned) => return Err(Interrupted::new_err(())),
                Err(Ended::Crashed) => {
                    drop(waiting);
                    panic::resume_unwind(Box::new("a job within another has panicked"));
                }
            },
            None => host.park(py, &|| callback.is_woken()),
        }
    }
}

/// Makes the callback known to the interrupter while the thread waits for it. Dropped, restores the
/// callback of the wait around this one.
struct Waiting {
    thread: Arc<Thread>,
    outer: Option<Arc<Callback>>,
}

impl Waiting {
    fn begin(callback: &Arc<Callback>) -> Self {
        let thread = Thread::enter();
        let outer = thread.wait_for(Some(Arc::clone(callback)));
        Self { thread, outer }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.thread.wait_for(self.outer.take());
    }
}
