//! The state that a child process has once. Set by the main thread before any other thread of the child
//! uses it. Locks are held for one operation, and nothing is dropped or called under them.

use once_cell::sync::OnceCell;
use pyo3::prelude::*;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use py_codec::etf::Objects;
use py_codec::frame::Inbox;
use py_engine::host::Wake;
use py_engine::host::callback::Callback;
use py_engine::interrupt::Thread;
use py_engine::lock::lock;

use crate::connection::Connection;
use crate::jobs::Jobs;
use crate::payload::Payload;
use crate::timer::Timer;

static CHILD: OnceCell<Child> = OnceCell::new();

pub(crate) struct Child {
    pub(crate) connection: Connection,
    main: ThreadId,
    /// The engine's record of the main thread.
    pub(crate) thread: Arc<Thread>,
    pub(crate) jobs: Jobs,
    /// The calls of Erlang that have no end yet.
    pub(crate) calls: Mutex<HashMap<u64, Arc<Callback>>>,
    /// The reasons for the ends of monitored processes, in the external term format; `None` before.
    pub(crate) watches: Mutex<HashMap<u64, Option<Vec<u8>>>>,
    pub(crate) objects: ObjectTable,
    /// Names of functions that were registered when the VM was asked, for one generation.
    pub(crate) functions: Mutex<(u64, HashSet<String>)>,
    /// How often a module was reloaded in the pool when this process last looked.
    pub(crate) reloads: AtomicU64,
    /// The waker of the event loop that the main thread runs, which is woken when `data` is readable.
    pub(crate) loop_waker: Mutex<Option<Arc<dyn Wake>>>,
    /// The bytes that `data` has brought. Used by the main thread only.
    pub(crate) inbox: Mutex<Inbox>,
    /// Frames that came while the main thread was in the middle of a job, and that have to wait for its
    /// end. Used by the main thread only.
    pub(crate) later: Mutex<VecDeque<(u8, Payload)>>,
    /// Bytes of output that were sent since the VM was asked whether it has room.
    pub(crate) unasked_output: AtomicUsize,
    /// The engine has objects that the main thread has to drop.
    pub(crate) has_released: AtomicBool,
    /// The lease of the last job that had one; the next number once that lease has ended. Leases are numbered
    /// in the order in which they begin.
    pub(crate) lease: AtomicU64,
    /// Runs a job in the middle of the call that waits on the calling thread.
    pub(crate) run_nested: RunNested,
    /// Runs out when the main thread has cleaned up for too long what the VM does not wait for.
    pub(crate) cleaning: Timer,
}

/// A function that runs the job of a payload.
pub(crate) type RunNested = fn(Python<'_>, &'static Child, &Payload);

impl Child {
    /// Makes the state, on the main thread.
    pub(crate) fn open(
        connection: Connection,
        grace: u64,
        run_nested: RunNested,
    ) -> io::Result<&'static Self> {
        CHILD.get_or_try_init(|| {
            Ok(Self {
                connection,
                main: thread::current().id(),
                thread: Thread::enter(),
                jobs: Jobs::new(grace),
                calls: Mutex::default(),
                watches: Mutex::default(),
                objects: ObjectTable::default(),
                functions: Mutex::default(),
                reloads: AtomicU64::new(0),
                loop_waker: Mutex::default(),
                inbox: Mutex::default(),
                later: Mutex::default(),
                unasked_output: AtomicUsize::new(0),
                has_released: AtomicBool::new(false),
                lease: AtomicU64::new(0),
                run_nested,
                cleaning: Timer::new()?,
            })
        })
    }

    /// Returns the state; `None` before `open`.
    pub(crate) fn find() -> Option<&'static Self> {
        CHILD.get()
    }

    pub(crate) fn is_main_thread(&self) -> bool {
        thread::current().id() == self.main
    }
}

/// The objects that Erlang has handles of, by their numbers.
#[derive(Default)]
pub(crate) struct ObjectTable {
    objects: Mutex<HashMap<u64, Py<PyAny>>>,
    last: AtomicU64,
}

impl ObjectTable {
    /// Removes an object that Erlang has dropped. Called by the control thread, which leaves the drop
    /// to the main thread.
    pub(crate) fn take(&self, number: u64) -> Option<Py<PyAny>> {
        lock(&self.objects).remove(&number)
    }
}

impl Objects for ObjectTable {
    fn keep(&self, object: &Bound<'_, PyAny>) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.objects).insert(number, object.clone().unbind());
        number
    }

    fn find<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>> {
        let objects = lock(&self.objects);
        objects.get(&number).map(|object| object.bind(py).clone())
    }
}
