//! `erlang.call`: a call of an Erlang function, and the wait for the answer, during which the thread
//! runs what the process that answers submits.

use pyo3::prelude::*;
use pyo3::types::{PyModule, PyTuple};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::raised;
use crate::asyncio;
use crate::host::callback::{Answer, Callback, Ended, Event};
use crate::host::{Function, Host};
use crate::interpreter;
use crate::interrupt::{self, Interrupted, Thread};

pub(super) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.setattr("call", wrap_pyfunction!(call, module)?)?;
    module.setattr("_wait_down", wrap_pyfunction!(wait_down, module)?)
}

/// What the Erlang function of this name returns for these arguments.
#[pyfunction]
#[pyo3(signature = (name, /, *args))]
fn call<'py>(
    py: Python<'py>,
    name: &str,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let host = asyncio::host(py)?;
    check_registered(py, &*host, name)?;
    ask(&*host, Function::Registered(name), args)
}

/// Waits until a monitored process has ended, or a number of milliseconds.
#[pyfunction]
fn wait_down<'py>(py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    ask(&*asyncio::host(py)?, Function::WaitDown, args)
}

/// Raises `NotRegistered` for a name that no function has.
pub(super) fn check_registered(py: Python<'_>, host: &dyn Host, name: &str) -> PyResult<()> {
    if host.is_registered(name) {
        return Ok(());
    }
    let text = format!("no Erlang function is registered as '{name}'");
    Err(not_registered(py, &text))
}

/// An instance of `erlang.NotRegistered`.
#[must_use]
pub fn not_registered(py: Python<'_>, text: &str) -> PyErr {
    raised(py, |classes| &classes.not_registered, (text,))
}

fn ask<'py>(
    host: &dyn Host,
    function: Function<'_>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = args.py();
    let callback = Callback::new(next_id(py)?, host.waker());
    host.call(function, args, &callback)?;
    let mut call = Call {
        host,
        callback: &callback,
        is_answered: false,
    };
    let answer = wait(py, host, &callback);
    call.is_answered = answer.is_ok();
    drop(call);
    answer?.value(py, function, host)
}

/// A number for a call or a monitor: the host tells all of them apart by it.
///
/// # Errors
/// Python has not been set up.
pub fn next_id(py: Python<'_>) -> PyResult<u64> {
    let next_call = &interpreter::find(py)?.next_call;
    Ok(next_call.fetch_add(1, Ordering::Relaxed))
}

/// Ends the call when it is dropped, also by a panic.
struct Call<'a> {
    host: &'a dyn Host,
    callback: &'a Callback,
    is_answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        end(self.host, self.callback, self.is_answered);
    }
}

/// Refuses the jobs that came too late, and has the host end the process, if it has not answered.
pub(super) fn end(host: &dyn Host, callback: &Callback, is_answered: bool) {
    callback.end();
    if !is_answered {
        host.end_call(callback);
    }
}

/// Returns the answer, or the exception that was raised in this thread.
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
                // The thread was replaced: the code that waits ends as well.
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

/// The thread waits for a call, until this is dropped: then for the one around it again, if any.
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
