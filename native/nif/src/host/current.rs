//! The calling thread, as the host knows it: its record for the watchdog, and, for a worker, its
//! pool and its GIL turn.
//!
//! Thread-local, since the code of a job calls the host through Python. A worker and the releaser
//! have one for life; a guest, a thread that Python code has started, from its first callback on.
//! Called by the thread itself, attached; only `park` blocks, detached.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use py_engine::host::Wake;
use py_engine::python::switch_interval::detach;

use crate::gil::{GilTurn, WorkerWaker};
use crate::pool::Pool;
use crate::watch::{self, Role, WatchedThread};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Current>>> = const { RefCell::new(None) };
}

pub(crate) struct Current {
    /// `None` for a guest and for the releaser.
    worker: Option<WorkerParts>,
    pub(crate) watched: Arc<WatchedThread>,
}

pub(crate) struct WorkerParts {
    pub(crate) pool: Arc<Pool>,
    /// The GIL turn of the worker. Borrowed for a look, or to park; no Python code runs meanwhile.
    pub(crate) turn: Rc<RefCell<GilTurn>>,
}

impl Current {
    /// Makes the calling thread known, as a worker if `worker` is given.
    pub(crate) fn open(watched: &Arc<WatchedThread>, worker: Option<WorkerParts>) -> Rc<Self> {
        let watched = Arc::clone(watched);
        let current = Rc::new(Self { worker, watched });
        CURRENT.set(Some(Rc::clone(&current)));
        current
    }

    /// Makes the calling thread unknown again. Called when a worker ends.
    pub(crate) fn close() {
        drop(CURRENT.take());
    }

    /// Returns the calling thread, if it is known and not about to end.
    pub(crate) fn existing() -> Option<Rc<Self>> {
        let current = CURRENT.try_with(|current| current.borrow().clone());
        current.ok().flatten()
    }

    /// Returns the calling thread, which becomes a guest if it was unknown.
    pub(crate) fn get() -> Rc<Self> {
        Self::existing().unwrap_or_else(|| Self::open(&watch::register(Role::Guest), None))
    }

    pub(crate) fn worker(&self) -> Option<&WorkerParts> {
        self.worker.as_ref()
    }

    /// Returns the waker that wakes this thread from `park`.
    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        match &self.worker {
            Some(worker) => Arc::new(WorkerWaker(Arc::clone(worker.turn.borrow().worker()))),
            None => Arc::new(thread::current()),
        }
    }

    /// Blocks, detached, until `is_woken` returns `true`. A worker passes its GIL turn on
    /// meanwhile, and leaves the pool's queue to other workers if it serves no lease.
    pub(crate) fn park(
        &self,
        py: Python<'_>,
        serves_lease: bool,
        is_woken: &(dyn Fn() -> bool + Send + Sync),
    ) {
        let Some(worker) = &self.worker else {
            py.detach(|| {
                while !is_woken() {
                    thread::park();
                }
            });
            return;
        };
        let turn = &mut *worker.turn.borrow_mut();
        if !serves_lease {
            turn.leave_queue(&worker.pool);
        }
        detach(py, || turn.park::<Pool>(None, is_woken));
        turn.attached();
    }
}

impl Drop for Current {
    /// Unregisters a guest when its thread ends. A worker and the releaser unregister themselves.
    fn drop(&mut self) {
        if matches!(self.watched.role, Role::Guest) {
            self.watched.leave();
            watch::unregister(&self.watched);
        }
    }
}
