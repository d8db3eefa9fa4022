//! `erlang.call`: a message to `py_callback`, and the wait for the answer, which runs what the
//! process that answers submits meanwhile.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyModule, PyTuple};
use rustler::types::tuple::get_tuple;
use rustler::{Encoder, Env, ResourceArc, Term};
use std::panic;
use std::sync::Arc;

use super::{classes, is_registered, not_running, server_pid};
use crate::atoms;
use crate::callback::{Callback, Handle, Mail, Outcome};
use crate::context::Lease;
use crate::convert::{to_object, to_term};
use crate::error::Error;
use crate::interrupt::{self, Interrupted};
use crate::object::ErlangTerm;
use crate::reply::Outbox;
use crate::station::{Exit, Station};
use crate::ticket::Ticket;

pub(super) fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
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
    check_registered(py, name)?;
    ask(Function::Registered(name), args)
}

/// Waits until the process of a watch is down, or so many milliseconds.
#[pyfunction]
fn wait_down<'py>(args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    ask(Function::WaitDown, args)
}

/// What `py_callback` runs.
#[derive(Clone, Copy)]
pub(super) enum Function<'a> {
    Registered(&'a str),
    WaitDown,
}

impl Encoder for Function<'_> {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Self::Registered(name) => name.encode(env),
            Self::WaitDown => atoms::wait_down().encode(env),
        }
    }
}

fn ask<'py>(function: Function<'_>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = args.py();
    let station = Station::here();
    let job = Station::job(py);
    let ticket = job
        .as_ref()
        .map_or_else(Ticket::unlimited, |job| Arc::clone(&job.ticket));
    let callback = Callback::new(job, Arc::clone(ticket.pending()), station.waker());
    submit(&station, &callback, function, args, &ticket)?;
    let mut asked = Asked {
        callback: &callback,
        is_answered: false,
    };
    let outcome = wait(py, &station, &callback);
    asked.is_answered = outcome.is_ok();
    drop(asked);
    value(py, function, &outcome?, &ticket)
}

/// Somebody waits for the answer, until this is dropped, if need be by a panic.
struct Asked<'a> {
    callback: &'a Callback,
    is_answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        close(self.callback, self.is_answered);
    }
}

/// Nobody waits any more: refuses the jobs that came too late, and has the process ended, if it has
/// not answered.
pub(super) fn close(callback: &Callback, is_answered: bool) {
    let mut outbox = Outbox::new();
    let mut jobs = callback.end();
    while let Some(job) = jobs.pop() {
        outbox.refuse(&job, Error::ContextNotBound);
    }
    if !is_answered && let Some(server) = server_pid() {
        outbox.note(&server, (atoms::py_callback(), callback.id, atoms::ended()));
    }
}

/// Asks `py_callback` to run the function.
pub(super) fn submit(
    station: &Station,
    callback: &Arc<Callback>,
    function: Function<'_>,
    args: &Bound<'_, PyTuple>,
    ticket: &Ticket,
) -> PyResult<()> {
    let args = args.to_list();
    let lease = station.frame().and_then(|frame| frame.lease);
    let Some(server) = server_pid() else {
        return Err(not_running());
    };
    let told = Outbox::new().tell(&server, |env| {
        let answer = to_term(env, args.as_any(), ticket)?;
        let tag = answer.tag();
        let place = place(env, callback, lease.as_deref());
        Ok(answer.map(|args| (atoms::py_callback(), place, function, (tag, args)).encode(env)))
    });
    match told {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_running()),
        Err(error) => Err(error.into_exception()),
    }
}

/// `{Id, Callback, Lease, Callers}`.
fn place<'a>(env: Env<'a>, callback: &Arc<Callback>, lease: Option<&Lease>) -> Term<'a> {
    let handle = ResourceArc::new(Handle(Arc::clone(callback)));
    let lease = match lease {
        Some(lease) => lease.id.encode(env),
        None => atoms::none().encode(env),
    };
    let callers = match &callback.job {
        Some(job) => job.callers(env),
        None => Term::list_new_empty(env),
    };
    (callback.id, handle, lease, callers).encode(env)
}

/// Until there is an outcome, or an exception for the code that waits.
fn wait(py: Python<'_>, station: &Station, callback: &Arc<Callback>) -> PyResult<Outcome> {
    let outer = station.slot.wait_for(Some(Arc::clone(callback)));
    let waited = loop {
        if callback.take_interrupt()
            && let Some(error) = interrupt::take(py)
        {
            break Err(error);
        }
        match callback.take() {
            Some(Mail::Outcome(outcome)) => break Ok(outcome),
            Some(Mail::Job(job)) => match station.execute_within(py, &job) {
                Ok(()) | Err(Exit::Closed) => {}
                // Its thread has lost its place: the code that waits ends as well.
                Err(Exit::Abandoned) => break Err(Interrupted::new_err(())),
                Err(Exit::Crashed) => {
                    station.slot.wait_for(outer);
                    panic::resume_unwind(Box::new("a job within another has panicked"));
                }
            },
            None => station.wait(py, || callback.is_woken()),
        }
    };
    station.slot.wait_for(outer);
    waited
}

pub(super) fn value<'py>(
    py: Python<'py>,
    function: Function<'_>,
    outcome: &Outcome,
    ticket: &Ticket,
) -> PyResult<Bound<'py, PyAny>> {
    let Outcome::Said(env, term) = outcome else {
        let whole = ErlangTerm::make(|env| {
            let stack = Term::list_new_empty(env);
            Some((atoms::exit(), atoms::killed(), stack).encode(env))
        });
        let whole = whole.map(|term| Bound::new(py, term));
        let stack = PyList::empty(py);
        let args = ("exit", "killed", stack, whole.transpose()?);
        return Err(PyErr::from_value(
            classes(py)?.erlang_error.bind(py).call1(args)?,
        ));
    };
    env.run(|env| {
        let term = term.load(env);
        if atoms::not_registered() == term
            && let Function::Registered(name) = function
        {
            return Err(not_registered(py, name));
        }
        let elements = get_tuple(term).unwrap_or_default();
        match *elements {
            [_ok, value] => to_object(py, value, ticket).map_err(Error::into_exception),
            [class, reason, stack] => {
                // A reason that has no Python form is kept as it is.
                let form = |term| match to_object(py, term, ticket) {
                    Ok(object) => Ok(object),
                    Err(_) => ErlangTerm::wrap(py, term).map_err(Error::into_exception),
                };
                let whole = ErlangTerm::wrap(py, term).map_err(Error::into_exception)?;
                let args = (form(class)?, form(reason)?, form(stack)?, whole);
                let error = classes(py)?.erlang_error.bind(py).call1(args)?;
                Err(PyErr::from_value(error))
            }
            _ => Err(PyRuntimeError::new_err("py_callback gave no answer")),
        }
    })
}

pub(super) fn check_registered(py: Python<'_>, name: &str) -> PyResult<()> {
    if is_registered(name) {
        return Ok(());
    }
    Err(not_registered(py, name))
}

fn not_registered(py: Python<'_>, name: &str) -> PyErr {
    let text = format!("no Erlang function is registered as '{name}'");
    match classes(py).and_then(|classes| classes.not_registered.bind(py).call1((text,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
