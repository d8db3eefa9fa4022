//! Where the calling thread runs jobs: its turn, its slot, and the jobs that it is in the middle of,
//! which are several when the process that answers a callback submits jobs itself.
//!
//! Thread-local, since the code of a job comes back here through Python. A worker has one for life;
//! a guest, a thread that Python code has started, from its first callback on. Attached, but for the
//! wait of `wait`.

use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use crate::context::Lease;
use crate::error::Error;
use crate::job::Job;
use crate::namespace::Namespace;
use crate::pool::Pool;
use crate::reply::Outbox;
use crate::slot::{Role, Slot, Task};
use crate::turn::Turn;
use crate::waker::Waker;
use crate::{coroutines, switch, watchdog};

mod frame;

pub(crate) use frame::Frame;
use frame::Frames;

thread_local! {
    static STATION: RefCell<Option<Rc<Station>>> = const { RefCell::new(None) };
}

/// Why the thread ends.
pub(crate) enum Exit {
    Closed,
    /// A job panicked.
    Crashed,
    /// It got stuck, and others have seen to what it owned.
    Abandoned,
}

pub(crate) struct Station {
    /// `None` for a guest.
    post: Option<Post>,
    pub(crate) slot: Arc<Slot>,
    /// Innermost last.
    frames: Frames,
}

/// What a worker has.
struct Post {
    pool: Arc<Pool>,
    turn: Rc<RefCell<Turn>>,
}

/// A job that is shown and started.
pub(crate) struct Taken<'a> {
    job: &'a Arc<Job>,
    lease: Option<&'a Arc<Lease>>,
    /// In the middle of so many others.
    depth: usize,
}

impl Station {
    /// Of the calling thread, which is a worker.
    pub(crate) fn open(pool: &Arc<Pool>, slot: &Arc<Slot>, turn: &Rc<RefCell<Turn>>) -> Rc<Self> {
        let (pool, turn) = (Arc::clone(pool), Rc::clone(turn));
        Self::new(Some(Post { pool, turn }), Arc::clone(slot))
    }

    fn new(post: Option<Post>, slot: Arc<Slot>) -> Rc<Self> {
        let frames = Frames::default();
        let station = Rc::new(Self { post, slot, frames });
        STATION.set(Some(Rc::clone(&station)));
        station
    }

    /// Of the calling thread, which is the releaser.
    pub(crate) fn adopt(slot: &Arc<Slot>) {
        Self::new(None, Arc::clone(slot));
    }

    /// The worker ends.
    pub(crate) fn close() {
        drop(STATION.take());
    }

    /// Of the calling thread, if it has one, and is not about to end.
    pub(crate) fn existing() -> Option<Rc<Self>> {
        let station = STATION.try_with(|station| station.borrow().clone());
        station.ok().flatten()
    }

    /// Of the calling thread, whatever it is.
    pub(crate) fn here() -> Rc<Self> {
        Self::existing().unwrap_or_else(|| Self::new(None, watchdog::register(Role::Guest)))
    }

    /// The job that the running code belongs to: that of its task, if it is one, or the innermost of
    /// the calling thread.
    pub(crate) fn job(py: Python<'_>) -> Option<Arc<Job>> {
        let frame = STATION.with_borrow(|station| station.as_ref()?.frame())?;
        let flies = |lease: &Arc<Lease>| !lease.board().is_empty();
        let task = if frame.lease.as_ref().is_some_and(flies) {
            coroutines::job(py)
        } else {
            None
        };
        task.or(frame.job)
    }

    pub(crate) fn is_worker(&self) -> bool {
        self.post.is_some()
    }

    pub(crate) fn waker(&self) -> Waker {
        match &self.post {
            Some(post) => Waker::Worker(Arc::clone(post.turn.borrow().seat())),
            None => Waker::Thread(thread::current()),
        }
    }

    /// The innermost job. None while the worker cleans.
    pub(crate) fn frame(&self) -> Option<Frame> {
        self.frames.innermost()
    }

    /// The lease whose errand the running job is: `None` for a job in the middle of another, during
    /// which the worker does nothing else.
    pub(crate) fn errand(&self) -> Option<Arc<Lease>> {
        self.frames.only()?.lease
    }

    /// Takes a job; `None` when it must not run.
    pub(crate) fn take<'a>(
        &self,
        py: Python<'_>,
        job: &'a Arc<Job>,
        lease: Option<&'a Arc<Lease>>,
        outbox: &mut Outbox,
    ) -> Result<Option<Taken<'a>>, Exit> {
        // Shown first, started second, and only then looked whether somebody has closed this
        // place: whoever closes it looks for what has started.
        if let Some(post) = &self.post {
            post.turn.borrow_mut().begin();
        }
        let depth = self.slot.begin(Task::Job(Arc::clone(job), lease.cloned()));
        let refusal = if !job.ticket.start() {
            None
        } else if lease.is_some_and(|lease| lease.is_ended()) {
            Some(Error::ContextNotBound)
        } else if self.post.as_ref().is_some_and(|post| post.pool.is_closed()) {
            Some(Error::NoWorkersAvailable)
        } else {
            return Ok(Some(Taken { job, lease, depth }));
        };
        let has_place = self.slot.resume(py.into(), depth);
        match refusal {
            Some(error) => outbox.refuse(job, error),
            None => job.settle(),
        }
        if !has_place {
            return Err(Exit::Abandoned);
        }
        Ok(None)
    }

    /// Runs a started job and replies to it; a job that panicked is left to the caller of this.
    pub(crate) fn execute<'py>(
        &self,
        py: Python<'py>,
        Taken { job, lease, depth }: Taken<'_>,
        namespace: &Rc<Namespace<'py>>,
        outbox: &mut Outbox,
        before_reply: impl FnOnce(),
    ) -> Result<(), Exit> {
        let job = Arc::clone(job);
        let (written, is_current) = self.enter(Some(&job), lease, namespace, || {
            let run = || outbox.write(&job, |env| job.execute(py, namespace, env));
            catch_unwind(AssertUnwindSafe(run))
        });
        if !is_current {
            // The job around it has ended, and all that it showed: see `station/frame.rs`.
            outbox.refuse(&job, Error::Interrupted);
            return Ok(());
        }
        clear_indicator();
        if !self.slot.resume(py.into(), depth) {
            // Whoever was here when the thread lost its place has been told; others come later.
            outbox.refuse(&job, Error::Interrupted);
            return Err(Exit::Abandoned);
        }
        let Ok(letter) = written else {
            outbox.clear();
            return Err(Exit::Crashed);
        };
        before_reply();
        if let Some(letter) = letter {
            outbox.post(&job, letter);
        }
        Ok(())
    }

    /// Runs `body`, whose code finds its place by a frame.
    pub(crate) fn within<T>(
        &self,
        job: Option<&Arc<Job>>,
        lease: Option<&Arc<Lease>>,
        namespace: &Rc<Namespace<'_>>,
        body: impl FnOnce() -> T,
    ) -> T {
        self.enter(job, lease, namespace, body).0
    }

    /// As `within`; also whether the frame was still there at the end.
    fn enter<T>(
        &self,
        job: Option<&Arc<Job>>,
        lease: Option<&Arc<Lease>>,
        namespace: &Rc<Namespace<'_>>,
        body: impl FnOnce() -> T,
    ) -> (T, bool) {
        let pop = self.frames.push(job, lease, namespace);
        let done = body();
        let is_current = pop.is_current();
        (done, is_current)
    }

    /// Runs a job in the middle of what the thread does.
    pub(crate) fn execute_within(&self, py: Python<'_>, job: &Arc<Job>) -> Result<(), Exit> {
        let mut outbox = Outbox::new();
        let frame = self.frame();
        let lease = frame.as_ref().and_then(|frame| frame.lease.as_ref());
        let Some(taken) = self.take(py, job, lease, &mut outbox)? else {
            return Ok(());
        };
        let own;
        let namespace = if let Some(frame) = &frame {
            &frame.namespace
        } else {
            own = Namespace::of_thread(py);
            match &own {
                Ok(namespace) => namespace,
                Err(error) => {
                    self.slot.resume(py.into(), taken.depth);
                    outbox.refuse(job, error.clone_ref(py).into());
                    return Ok(());
                }
            }
        };
        let done = self.execute(py, taken, namespace, &mut outbox, || {});
        if let Err(Exit::Crashed) = done {
            outbox.refuse(job, Error::WorkerCrashed);
        }
        done
    }

    /// Waits detached until `is_woken`, with the turn given away meanwhile.
    pub(crate) fn wait(&self, py: Python<'_>, is_woken: impl Fn() -> bool + Send + Sync) {
        let Some(post) = &self.post else {
            py.detach(|| {
                while !is_woken() {
                    thread::park();
                }
            });
            return;
        };
        let turn = &mut *post.turn.borrow_mut();
        if self.frame().is_none_or(|frame| frame.lease.is_none()) {
            // Others must do what comes to the pool.
            turn.leave_desk(&post.pool);
        }
        switch::detach(py, || turn.rest::<Pool>(None, is_woken));
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if matches!(self.slot.role, Role::Guest) {
            // A guest ends: nobody will raise anything in it any more.
            self.slot.leave();
            watchdog::unregister(&self.slot);
        }
    }
}

/// An error indicator that something left set would fail the next caller's job.
pub(crate) fn clear_indicator() {
    // SAFETY: only called between two jobs, on an attached thread.
    unsafe { ffi::PyErr_Clear() };
}
