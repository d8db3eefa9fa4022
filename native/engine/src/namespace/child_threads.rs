//! The threads that the code of a context starts, and that may outlive the context.
//!
//! Every thread that Python code starts runs a [`Started`]: the thread has the `__main__` of the
//! context whose code has started it, and is counted for that context until it ends. The same holds
//! for the threads that such a thread starts. Called on any thread, attached. The worker waits,
//! detached, for a short time at the end of a context; no lock is held across Python code.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule, PyString, PyTuple};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::Host;
use crate::interpreter;
use crate::lock::lock;
use crate::python::{output, thread_state};

/// How long a worker waits at the end of a context for the threads of that to end.
const END_TIMEOUT: Duration = Duration::from_millis(50);
/// How long a thread waits for a new one to begin, which needs the GIL: long enough to be never
/// reached in practice.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Most names that are reported of threads that go on, and most characters of a name.
const MAX_NAMES: usize = 32;
const MAX_LENGTH: usize = 100;

thread_local! {
    /// The threads of the context that the calling thread serves, or whose code has started it. `None`
    /// on a thread of neither kind.
    static CHILDREN: RefCell<Option<Arc<Children>>> = const { RefCell::new(None) };
}

/// The threads of one context that have not ended.
#[derive(Default)]
struct Children {
    threads: Mutex<Threads>,
    /// Notified when a thread has begun or ended.
    changed: Condvar,
}

#[derive(Default)]
struct Threads {
    /// The number of the thread that was started last.
    last: u64,
    /// The identities by number; `None` for a thread that has not begun.
    running: BTreeMap<u64, Option<libc::pthread_t>>,
}

/// The function that a thread runs. Called once, by the thread itself.
#[pyclass(frozen, module = "erlang")]
pub(crate) struct Started {
    number: u64,
    children: Arc<Children>,
    /// `None` once the thread has begun.
    body: Mutex<Option<Body>>,
    function: Py<PyAny>,
}

/// The arguments of the function, and the `__main__` and the output of the thread.
struct Body {
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    main: Option<Py<PyAny>>,
    output: Option<Arc<dyn Host>>,
}

/// Begins to count the threads of the contexts of the calling worker, and saves the state of its
/// thread. Called by a worker before any code of a context runs on it.
pub fn listen() {
    CHILDREN.set(Some(Arc::default()));
    thread_state::begin();
}

/// Ends that. Called by a worker before it ends.
pub fn forget() {
    drop(CHILDREN.take());
}

#[pymethods]
impl Started {
    /// Counts a thread that the calling thread is about to start. Called by `patches.py`.
    #[new]
    #[pyo3(signature = (function, args, kwargs=None))]
    fn new(
        py: Python<'_>,
        function: Py<PyAny>,
        args: Py<PyAny>,
        kwargs: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        // The same texts as those of `_thread`.
        let wrong = |what: &'static str| move |_| PyTypeError::new_err(what);
        if !function.bind(py).is_callable() {
            return Err(PyTypeError::new_err("first arg must be callable"));
        }
        let args = args.into_bound(py).cast_into::<PyTuple>();
        let args = args.map_err(wrong("2nd arg must be a tuple"))?.unbind();
        let kwargs = kwargs.map(|kwargs| kwargs.into_bound(py).cast_into::<PyDict>());
        let kwargs = kwargs.transpose();
        let kwargs = kwargs.map_err(wrong("optional 3rd arg must be a dictionary"))?;
        let body = Body {
            args,
            kwargs: kwargs.map(Bound::unbind),
            main: super::main_of_thread(py)?.map(Bound::unbind),
            output: (interpreter::find(py)?.host_of_new_thread)(py),
        };
        // Counted last: nothing fails between this and the value that uncounts the thread.
        let children = CHILDREN.with_borrow(Option::clone).unwrap_or_default();
        let number = children.add();
        Ok(Self {
            number,
            children,
            body: Mutex::new(Some(body)),
            function,
        })
    }

    /// The body of the thread: sets its `__main__`, and calls the function.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let body = lock(&self.body).take();
        let Some(body) = body else {
            return Ok(());
        };
        // Uncounts the thread also if the function raises.
        let _guard = EndGuard(self);
        self.children.begin(self.number);
        CHILDREN.set(Some(Arc::clone(&self.children)));
        if let Some(main) = body.main {
            super::set_main_of_thread(main.bind(py))?;
        }
        output::set_thread_host(body.output);
        let kwargs = body.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        let done = self.function.bind(py).call(body.args.bind(py), kwargs);
        output::flush(py);
        done.map(drop)
    }

    /// Returns the `repr` of the function, which `threading.excepthook` prints.
    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.function.bind(py).repr()
    }

    /// Returns when the thread has begun. Called by the thread that has started it, and detaches.
    /// COMPAT(3.11): see `watch_threads` in `patches.py`.
    fn wait_until_begun(&self, py: Python<'_>) {
        py.detach(|| self.children.wait_until_begun(self.number));
    }

    /// Uncounts the thread, which has ended or could not be started.
    fn forget(&self) {
        self.children.remove(self.number);
    }
}

/// Uncounts the thread when its function returns, raises or panics.
struct EndGuard<'a>(&'a Started);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

impl Children {
    /// Counts a thread that has not begun, and returns its number.
    fn add(&self) -> u64 {
        let mut threads = self.threads();
        threads.last += 1;
        let number = threads.last;
        threads.running.insert(number, None);
        number
    }

    /// Stores the identity of the calling thread.
    fn begin(&self, number: u64) {
        // SAFETY: takes no argument.
        let ident = unsafe { libc::pthread_self() };
        self.threads().running.insert(number, Some(ident));
        self.changed.notify_all();
    }

    fn remove(&self, number: u64) {
        self.threads().running.remove(&number);
        self.changed.notify_all();
    }

    fn is_empty(&self) -> bool {
        self.threads().running.is_empty()
    }

    fn wait_until_begun(&self, number: u64) {
        let has_not_begun = |threads: &mut Threads| threads.running.get(&number) == Some(&None);
        let waited = self
            .changed
            .wait_timeout_while(self.threads(), BEGIN_TIMEOUT, has_not_begun);
        drop(waited);
    }

    /// Waits until all threads have ended, at most [`END_TIMEOUT`]; returns the identities of the
    /// others. Called detached.
    fn wait_until_empty(&self) -> Vec<libc::pthread_t> {
        let runs = |threads: &mut Threads| !threads.running.is_empty();
        let waited = self
            .changed
            .wait_timeout_while(self.threads(), END_TIMEOUT, runs);
        let (threads, _) = waited.unwrap_or_else(PoisonError::into_inner);
        threads
            .running
            .values()
            .map(|ident| ident.unwrap_or(0))
            .collect()
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        lock(&self.threads)
    }
}

/// Whether no thread of the context runs that the calling worker serves. Runs no Python code.
pub(crate) fn none_started() -> bool {
    CHILDREN.with_borrow(|children| children.as_ref().is_none_or(|children| children.is_empty()))
}

/// Waits a short time for the threads of the context that ends on the calling worker, and returns the
/// names of those that go on. Detaches; `cleanup` is the module of `cleanup.py`.
pub(crate) fn left_running(cleanup: &Bound<'_, PyModule>) -> PyResult<Vec<String>> {
    let py = cleanup.py();
    if none_started() {
        return Ok(Vec::new());
    }
    let children = CHILDREN.with_borrow_mut(|children| children.as_mut().map(mem::take));
    let children = children.unwrap_or_default();
    let left = py.detach(|| children.wait_until_empty());
    let names = cleanup.call_method1(intern!(py, "names"), (left,))?;
    let clip = |name: Bound<'_, PyAny>| {
        let name = name.str()?;
        Ok(name.to_string_lossy().chars().take(MAX_LENGTH).collect())
    };
    let names = names.cast::<PyList>()?.iter();
    names.take(MAX_NAMES).map(clip).collect()
}
