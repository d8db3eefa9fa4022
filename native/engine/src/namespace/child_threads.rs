//! The threads that the code of a context starts, and that may outlive it.
//!
//! Every thread that Python starts is a `Started`: it has the `__main__` of the context whose code
//! has started it, and stands among the threads of that context until it ends. So do the threads
//! that it starts itself. Runs attached, on any thread; no lock is held across Python code.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule, PyString, PyTuple};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lock::lock;
use crate::python::thread_state;

/// How long the threads of a context may take to end after it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a thread may take to begin, with the GIL as it is: a bound, never reached.
const BEGINNING: Duration = Duration::from_secs(10);
/// As many of their names are told, of this many characters.
const MAX_NAMES: usize = 32;
const MAX_LENGTH: usize = 100;

thread_local! {
    /// Those of the context that the calling thread serves, or was started by. `None` on a thread
    /// of neither kind.
    static CHILDREN: RefCell<Option<Arc<Children>>> = const { RefCell::new(None) };
}

/// The threads of one context that have not ended.
#[derive(Default)]
struct Children {
    /// By numbers, in the order of their start.
    threads: Mutex<Threads>,
    /// One has begun or ended.
    news: Condvar,
}

#[derive(Default)]
struct Threads {
    next: u64,
    /// The identity of each, as soon as it runs.
    running: BTreeMap<u64, Option<libc::pthread_t>>,
}

/// The function that a thread runs. Called once, by the thread itself.
#[pyclass(frozen, module = "erlang")]
pub(crate) struct Started {
    number: u64,
    children: Arc<Children>,
    /// `None` once it has begun.
    body: Mutex<Option<Body>>,
    function: Py<PyAny>,
}

struct Body {
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    main: Option<Py<PyAny>>,
}

/// Called by a worker before it serves anything.
pub fn listen() {
    CHILDREN.set(Some(Arc::default()));
    thread_state::begin();
}

/// The worker ends.
pub fn forget() {
    drop(CHILDREN.take());
}

#[pymethods]
impl Started {
    /// A thread that the calling one is about to start.
    #[new]
    #[pyo3(signature = (function, args, kwargs=None))]
    fn new(
        py: Python<'_>,
        function: Py<PyAny>,
        args: Py<PyAny>,
        kwargs: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        // The words of `_thread` for them.
        let wrong = |what: &'static str| move |_| PyTypeError::new_err(what);
        if !function.bind(py).is_callable() {
            return Err(PyTypeError::new_err("first arg must be callable"));
        }
        let args = args.into_bound(py).cast_into::<PyTuple>();
        let args = args.map_err(wrong("2nd arg must be a tuple"))?.unbind();
        let kwargs = kwargs.map(|kwargs| kwargs.into_bound(py).cast_into::<PyDict>());
        let kwargs = kwargs.transpose();
        let kwargs = kwargs.map_err(wrong("optional 3rd arg must be a dictionary"))?;
        let children = CHILDREN.with_borrow(Option::clone).unwrap_or_default();
        let number = children.add();
        let body = Body {
            args,
            kwargs: kwargs.map(Bound::unbind),
            main: super::main_of_thread(py)?.map(Bound::unbind),
        };
        Ok(Self {
            number,
            children,
            body: Mutex::new(Some(body)),
            function,
        })
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let body = lock(&self.body).take();
        let Some(body) = body else {
            return Ok(());
        };
        // However it ends.
        let _leave = Leave(self);
        self.children.begin(self.number);
        CHILDREN.set(Some(Arc::clone(&self.children)));
        if let Some(main) = body.main {
            super::set_main_of_thread(main.bind(py))?;
        }
        let kwargs = body.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        self.function.bind(py).call(body.args.bind(py), kwargs)?;
        Ok(())
    }

    /// For the message of an exception that nothing has caught: as without this.
    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.function.bind(py).repr()
    }

    /// Returns when the thread has begun. COMPAT(3.11): see `watch_threads` in `patches.py`.
    fn wait_until_begun(&self, py: Python<'_>) {
        py.detach(|| self.children.wait_until_begun(self.number));
    }

    /// The thread could not be started.
    fn forget(&self) {
        self.children.remove(self.number);
    }
}

struct Leave<'a>(&'a Started);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

impl Children {
    fn add(&self) -> u64 {
        let mut threads = self.threads();
        threads.next += 1;
        let number = threads.next;
        threads.running.insert(number, None);
        number
    }

    fn begin(&self, number: u64) {
        // SAFETY: asks for a value.
        let ident = unsafe { libc::pthread_self() };
        self.threads().running.insert(number, Some(ident));
        self.news.notify_all();
    }

    fn remove(&self, number: u64) {
        self.threads().running.remove(&number);
        self.news.notify_all();
    }

    fn is_empty(&self) -> bool {
        self.threads().running.is_empty()
    }

    fn wait_until_begun(&self, number: u64) {
        let is_about_to = |threads: &mut Threads| threads.running.get(&number) == Some(&None);
        let waited = self
            .news
            .wait_timeout_while(self.threads(), BEGINNING, is_about_to);
        drop(waited);
    }

    /// The identities of those that still run after a while.
    fn wait_until_empty(&self) -> Vec<libc::pthread_t> {
        let runs = |threads: &mut Threads| !threads.running.is_empty();
        let waited = self.news.wait_timeout_while(self.threads(), PATIENCE, runs);
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

/// No thread of the context of the calling worker runs.
pub(crate) fn none_started() -> bool {
    CHILDREN.with_borrow(|children| children.as_ref().is_none_or(|children| children.is_empty()))
}

/// The names of the threads that the context has started and that go on without it.
pub(crate) fn left_running(tidy: &Bound<'_, PyModule>) -> PyResult<Vec<String>> {
    let py = tidy.py();
    if none_started() {
        return Ok(Vec::new());
    }
    let children = CHILDREN.with_borrow_mut(|children| children.as_mut().map(mem::take));
    let children = children.unwrap_or_default();
    let left = py.detach(|| children.wait_until_empty());
    let names = tidy.call_method1(intern!(py, "names"), (left,))?;
    let clip = |name: Bound<'_, PyAny>| {
        let name = name.str()?;
        Ok(name.to_string_lossy().chars().take(MAX_LENGTH).collect())
    };
    let names = names.cast::<PyList>()?.iter();
    names.take(MAX_NAMES).map(clip).collect()
}
