//! A [`Host`] without a BEAM. Its Erlang functions are closures of Rust, each call of which runs on a
//! new thread; values cross in the external term format. Each test runs in a lease on a new thread.

mod lease;

use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use py_codec::etf::{self, Encoder};
use py_engine::call_stack::{self, with_call};
use py_engine::erlang::erlang_error;
use py_engine::exception::Exception;
use py_engine::execute::{Request, execute};
use py_engine::host::callback::{Answer, Callback, Ended, NestedJob};
use py_engine::host::{Function, Host, LogRecord, Stream, TaskOutcome, Wake};
use py_engine::interrupt::{Thread, notify_interrupter, start_interrupter};
use py_engine::lock::lock;
use py_engine::namespace::{Namespace, child_threads};
use py_engine::python::code_cache::Mode;
use py_engine::start::start;

pub(crate) use lease::in_lease;
use lease::run_in;

/// A term in the external term format.
pub(crate) type Bytes = Vec<u8>;

/// The end of a function, with its value or its class and reason.
pub(crate) enum Outcome {
    Value(Bytes),
    Failed(&'static str, Bytes),
    NotFound,
}

/// A function. The arguments: those of the call, and its callback, in which the function may run code.
pub(crate) type Function_ = dyn Fn(Bytes, &Arc<Callback>) -> Outcome + Send + Sync;

/// The state that all hosts share.
#[derive(Default)]
struct World {
    functions: Mutex<HashMap<String, Arc<Function_>>>,
    /// Messages by the names of their receivers.
    messages: Mutex<Vec<(String, Bytes)>>,
    /// The threads that the interrupter looks at.
    threads: Mutex<Vec<Arc<Thread>>>,
    /// Calls that ended without an answer.
    ended_calls: AtomicUsize,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::default)
}

/// The host of one test.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) must_stop: AtomicBool,
    /// The values of tasks that have ended, or the texts of their exceptions.
    pub(crate) tasks: Mutex<Vec<Result<Bytes, String>>>,
    /// How often an outermost load of a module was about to end.
    pub(crate) imports: AtomicUsize,
    /// How often a loop has looked for tasks that must stop.
    pub(crate) looks: AtomicUsize,
    /// What code has written.
    pub(crate) output: Mutex<Vec<(Stream, String)>>,
}

pub(crate) fn encode(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let mut encoder = Encoder::new(usize::MAX);
    match py_codec::write(object, &mut encoder, &|| false) {
        Ok(()) => Ok(encoder.into_bytes()),
        Err(stop) => Err(PyRuntimeError::new_err(format!("{stop:?}"))),
    }
}

pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    etf::decode(py, bytes, &|| false).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Registers an Erlang function for all hosts.
pub(crate) fn register(
    name: &str,
    function: impl Fn(Bytes, &Arc<Callback>) -> Outcome + Send + Sync + 'static,
) {
    lock(&world().functions).insert(name.to_owned(), Arc::new(function));
}

pub(crate) fn messages_for(name: &str) -> Vec<Bytes> {
    let messages = lock(&world().messages);
    let sent = messages.iter().filter(|(to, _)| to == name);
    sent.map(|(_, message)| message.clone()).collect()
}

/// Returns how many calls of all hosts have ended without an answer.
pub(crate) fn ended_calls() -> usize {
    world().ended_calls.load(Ordering::SeqCst)
}

struct TestAnswer(Outcome);

impl Answer for TestAnswer {
    fn value<'py>(
        &self,
        py: Python<'py>,
        _function: Function<'_>,
        _host: &dyn Host,
    ) -> PyResult<Bound<'py, PyAny>> {
        match &self.0 {
            Outcome::Value(bytes) => decode(py, bytes),
            Outcome::Failed(class, reason) => {
                let args = (*class, decode(py, reason)?, PyTuple::empty(py));
                Err(erlang_error(py, args))
            }
            Outcome::NotFound => Err(PyRuntimeError::new_err("no such function")),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An expression that is evaluated in the middle of a call.
struct Nested {
    source: String,
    result: mpsc::Sender<Result<Bytes, String>>,
}

impl NestedJob for Nested {
    fn run(self: Arc<Self>, py: Python<'_>) -> Result<(), Ended> {
        let call = call_stack::innermost().expect("a job runs in the middle of a call");
        let result = run_in(py, &call.host, &call.namespace, Mode::Eval, &self.source);
        // Fails if the test has ended.
        let _: Result<_, _> = self.result.send(result);
        Ok(())
    }

    fn refuse(&self) {
        let _: Result<_, _> = self.result.send(Err("refused".to_owned()));
    }

    fn withdrawn(&self) {}
}

/// Evaluates `source` on the thread that waits for `callback`, and blocks until then.
pub(crate) fn eval_within(callback: &Callback, source: &str) -> Result<Bytes, String> {
    let (sender, result) = mpsc::channel();
    let job = Nested {
        source: source.to_owned(),
        result: sender,
    };
    match callback.submit(Arc::new(job)) {
        Ok(_) => result.recv().unwrap_or(Err("lost".to_owned())),
        Err(refused) => Err(format!("{refused:?}")),
    }
}

impl Host for TestHost {
    fn must_stop(&self) -> bool {
        self.must_stop.load(Ordering::SeqCst)
    }

    fn is_registered(&self, name: &str) -> bool {
        lock(&world().functions).contains_key(name)
    }

    fn registered(&self) -> Vec<String> {
        lock(&world().functions).keys().cloned().collect()
    }

    fn call(
        &self,
        function: Function<'_>,
        args: &Bound<'_, PyTuple>,
        callback: &Arc<Callback>,
    ) -> PyResult<()> {
        let Function::Registered(name) = function else {
            return Err(PyNotImplementedError::new_err("monitors"));
        };
        let function = lock(&world().functions).get(name).cloned();
        let args = encode(args.to_list().as_any())?;
        let callback = Arc::clone(callback);
        thread::spawn(move || {
            let outcome = match function {
                Some(function) => function(args, &callback),
                None => Outcome::NotFound,
            };
            callback.answer(Box::new(TestAnswer(outcome)));
        });
        Ok(())
    }

    fn end_call(&self, _callback: &Callback) {
        world().ended_calls.fetch_add(1, Ordering::SeqCst);
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(thread::current())
    }

    fn park(&self, py: Python<'_>, is_woken: &(dyn Fn() -> bool + Send + Sync)) {
        py.detach(|| {
            while !is_woken() {
                thread::park();
            }
        });
    }

    fn send(&self, dest: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let message = encode(message)?;
        lock(&world().messages).push((dest.extract()?, message));
        Ok(())
    }

    fn caller<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok("the caller".into_pyobject(py)?.into_any())
    }

    fn whereis<'py>(&self, _name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(None)
    }

    fn atom<'py>(&self, py: Python<'py>, name: &str, _create: bool) -> PyResult<Bound<'py, PyAny>> {
        Ok(name.into_pyobject(py)?.into_any())
    }

    fn watch<'py>(&self, _dest: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Err(PyNotImplementedError::new_err("monitors"))
    }

    fn finish_task(&self, py: Python<'_>, outcome: TaskOutcome<'_>) {
        let result = match outcome {
            TaskOutcome::Value(value) => encode(&value).map_err(|error| error.to_string()),
            TaskOutcome::Raised(error) => Err(error.value(py).to_string()),
            TaskOutcome::Cancelled(_) => Err("cancelled".to_owned()),
        };
        lock(&self.tasks).push(result);
    }

    fn cancel_unwanted_tasks(&self, _py: Python<'_>) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    fn import_ends(&self) {
        self.imports.fetch_add(1, Ordering::SeqCst);
    }

    fn import_ended(&self) {}

    fn output(&self, _py: Python<'_>, stream: Stream, text: &str) {
        lock(&self.output).push((stream, text.to_owned()));
    }

    fn log(&self, _py: Python<'_>, record: LogRecord) {
        lock(&self.output).push((Stream::Stderr, record.message));
    }

    fn of_threads(&self) -> Option<Arc<dyn Host>> {
        None
    }

    fn is_worker(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
