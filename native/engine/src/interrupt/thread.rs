//! The record of a thread that runs Python, by which it is interrupted.
//!
//! The states: idle, between `end` and `begin`; in a task; in a task and abandoned; left. The thread
//! itself begins and ends tasks, masks and waits, attached. The interrupter raises and withdraws,
//! attached. The host's watchdog requests and abandons, and never attaches. The lock is held for a few
//! instructions, never across Python code and never while attaching; the host may hold the lock of a
//! watched thread while it takes this one, never the other way round.

use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::raise::{Attached, ThreadId, forget_raised};
use super::{Interrupted, raise};
use crate::host::callback::Callback;
use crate::lock::lock;
use crate::loop_waker::LoopWaker;
use crate::task_list::TaskList;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Thread>>> = const { RefCell::new(None) };
}

/// A thread that runs Python: a worker, the releaser, or a guest.
pub struct Thread {
    id: ThreadId,
    /// Set once another thread has replaced this one, which ends after its task.
    is_abandoned: AtomicBool,
    /// The address of the frame in which the thread serves jobs, or 0.
    base: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Set until the interrupter has raised the exception that was requested.
    pending: bool,
    /// Set from the raise of an exception until the thread or the interrupter has withdrawn it; it may
    /// have been delivered meanwhile.
    raised: bool,
    /// How many masks are active. While it is not 0, `raise` does nothing and `pending` stays set.
    masks: usize,
    /// How many loads of modules the thread is in. Each is a mask as well.
    imports: usize,
    /// Whether one of the masks is that of an event loop, between its callbacks.
    is_between_callbacks: bool,
    /// Set when a callback began while a request was pending, which is not for that callback: the loop
    /// takes the request, or the end of the mask raises.
    is_put_off: bool,
    /// The callback that the thread waits for: an interrupt wakes it.
    callback: Option<Arc<Callback>>,
    /// The waker of the event loop that runs in the thread: an interrupt wakes it.
    loop_waker: Option<Arc<LoopWaker>>,
    /// The asyncio tasks of the lease that the thread serves.
    tasks: Weak<TaskList>,
}

/// The result of `raise` in one round of the interrupter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    Nothing,
    /// An exception was raised in a thread that serves jobs.
    InTime,
    /// An exception was raised in an abandoned thread, and has to be withdrawn after a while.
    Abandoned,
}

impl Thread {
    /// Returns the record of the calling thread; makes one that lasts until [`Thread::leave`] if there
    /// is none.
    #[must_use]
    pub fn enter() -> Arc<Self> {
        Self::current().unwrap_or_else(|| {
            let thread = Arc::new(Self {
                id: ThreadId::current(),
                is_abandoned: AtomicBool::new(false),
                base: AtomicUsize::new(0),
                state: Mutex::default(),
            });
            CURRENT.set(Some(Arc::clone(&thread)));
            thread
        })
    }

    /// Returns the record of the calling thread, if it has one and is not about to end.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        let current = CURRENT.try_with(|current| current.borrow().clone());
        current.ok().flatten()
    }

    /// Resets requests and masks. Called by the thread when it begins a task and runs no other.
    pub fn begin(&self) {
        let mut state = lock(&self.state);
        state.pending = false;
        state.masks = 0;
        state.imports = 0;
        state.is_between_callbacks = false;
        state.is_put_off = false;
    }

    /// Withdraws an exception that was not delivered, and the request for one. Called by the thread,
    /// attached, at the end of its task, or a late exception would hit the next one.
    pub fn end(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.raised) {
            self.id.unraise(py);
        }
        state.pending = false;
        state.is_put_off = false;
    }

    /// Resets the record like `end`, and removes it from the calling thread. Called when the thread
    /// has left Python: the system may give its identity to a new thread, so no exception may be
    /// raised or withdrawn by it any more.
    pub fn leave(&self) {
        let mut state = lock(&self.state);
        state.pending = false;
        state.is_put_off = false;
        if std::mem::take(&mut state.raised) {
            forget_raised();
        }
        drop(state);
        // Fails while the thread ends, when its thread-locals are gone.
        let _: Result<_, _> = CURRENT.try_with(RefCell::take);
    }

    /// Requests an exception in the thread, which the interrupter raises in its next round. Called by
    /// the host, also detached; the caller notifies the interrupter.
    ///
    /// `seen` is the waker of the loop that the caller has seen in the thread. Returns `false`, and does
    /// nothing, if another loop runs by now, or none: what has to stop may be something else.
    #[must_use]
    pub fn request(&self, seen: Option<&Arc<LoopWaker>>) -> bool {
        let mut state = lock(&self.state);
        let is_seen = state.loop_waker.as_ref().map(Arc::as_ptr) == seen.map(Arc::as_ptr);
        state.pending |= is_seen;
        is_seen
    }

    /// Raises the exception that was requested, unless a mask is active or the task has ended since, and
    /// wakes the thread. Called by the interrupter, or by the thread itself at the end of a mask.
    pub(super) fn raise(&self, py: Attached<'_>) -> Raised {
        let mut state = lock(&self.state);
        if state.masks > 0 || !state.pending {
            // A loop takes the request itself when its waker wakes it.
            let is_taken = state.pending && state.is_between_callbacks;
            let loop_waker = state.loop_waker.clone().filter(|_| is_taken);
            drop(state);
            loop_waker.inspect(|waker| waker.wake());
            return Raised::Nothing;
        }
        state.pending = false;
        state.raised = true;
        self.id.raise(py);
        let (callback, loop_waker) = (state.callback.clone(), state.loop_waker.clone());
        let raised = if self.is_abandoned() {
            Raised::Abandoned
        } else {
            Raised::InTime
        };
        drop(state);
        if let Some(callback) = callback {
            callback.interrupt();
        }
        if let Some(waker) = loop_waker {
            // A signal does not end the wait of a loop for its descriptors (PEP 475).
            waker.wake();
        }
        raised
    }

    /// Withdraws the exception from an abandoned thread, if it was not delivered. Called by the
    /// interrupter.
    pub(super) fn withdraw(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.raised) {
            self.id.unraise(py);
        }
    }

    /// COMPAT(3.12): clears the interpreter's flag after a withdrawal, by an exception that the calling
    /// thread raises and swallows. Called by the releaser itself, in a task.
    pub fn absorb(&self, py: Attached<'_>) {
        self.id.absorb(py);
    }

    /// Begins a mask, which puts off exceptions, also one that is pending. Called by the thread itself.
    pub(super) fn mask(&self, py: Python<'_>) {
        let mut state = lock(&self.state);
        state.masks += 1;
        let may_be_pending = std::mem::take(&mut state.raised);
        drop(state);
        // Only a pending exception is requested again: one that was delivered must not be raised once
        // more, in code that cleans up.
        let is_interrupt = |error: PyErr| error.is_instance_of::<Interrupted>(py);
        if may_be_pending && raise::take(py).is_some_and(is_interrupt) {
            lock(&self.state).pending = true;
        }
    }

    /// Ends a mask. If it was the last one, an exception that was put off is raised at once. Called by
    /// the thread itself.
    pub(super) fn unmask(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        // A task may have begun since the mask did, and reset the count.
        state.masks = state.masks.saturating_sub(1);
        drop(state);
        self.raise(py);
    }

    /// Begins the mask of an event loop, or goes on with it after a callback. Returns `false`, and does
    /// nothing, if it is active. Called by the thread itself.
    pub(super) fn mask_loop(&self, py: Python<'_>) -> bool {
        if std::mem::replace(&mut lock(&self.state).is_between_callbacks, true) {
            return false;
        }
        self.mask(py);
        true
    }

    /// Ends the mask of an event loop, and raises what no loop has taken. Called by the thread itself,
    /// between callbacks.
    pub(super) fn unmask_loop(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        state.is_between_callbacks = false;
        state.pending |= std::mem::take(&mut state.is_put_off);
        drop(state);
        self.unmask(py);
    }

    /// Suspends the mask of an event loop for a callback. Returns `false`, and does nothing, if the mask
    /// is not active. Called by the thread itself.
    ///
    /// A request that is pending is older than the callback, and so is not for it: the loop is woken to
    /// take the request. The host requests again in a callback that does not end.
    pub(super) fn begin_callback(&self) -> bool {
        let mut state = lock(&self.state);
        if !std::mem::take(&mut state.is_between_callbacks) {
            return false;
        }
        // A task may have begun since the mask did, and reset the count.
        state.masks = state.masks.saturating_sub(1);
        if std::mem::take(&mut state.pending) {
            state.is_put_off = true;
            let loop_waker = state.loop_waker.clone();
            drop(state);
            loop_waker.inspect(|waker| waker.wake());
        }
        true
    }

    /// Takes the request for an exception that the mask of an event loop puts off. Called by the thread
    /// itself.
    pub(super) fn take_request(&self) -> bool {
        let mut state = lock(&self.state);
        if !state.is_between_callbacks {
            return false;
        }
        let is_pending = std::mem::take(&mut state.pending);
        std::mem::take(&mut state.is_put_off) || is_pending
    }

    /// Counts a load of a module. Called by the thread itself, under a mask.
    pub(super) fn begin_import(&self) {
        lock(&self.state).imports += 1;
    }

    /// Ends a load of a module; before the outermost one the caller has called `import_ends` of the
    /// host.
    pub(super) fn end_import(&self) {
        let mut state = lock(&self.state);
        state.imports = state.imports.saturating_sub(1);
    }

    /// Whether the load that is about to end is the outermost of the thread.
    pub(super) fn is_outermost_import(&self) -> bool {
        lock(&self.state).imports == 1
    }

    /// Whether the thread loads a module, and so masks interrupts. Called by the watchdog.
    pub fn is_importing(&self) -> bool {
        lock(&self.state).imports > 0
    }

    /// Marks the thread as replaced: it ends after its task. Called by the watchdog, detached, while the
    /// thread runs a task.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
        self.id.rename(c"py_abandoned");
    }

    /// Whether another thread has replaced this one.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::SeqCst)
    }

    /// Breaks a system call of the thread, which must run a task: the call fails with `EINTR`. From
    /// 3.15 on Python raises a pending exception before it repeats the call
    /// (<https://github.com/python/cpython/issues/144748>); older versions repeat it. Called by the
    /// watchdog, detached.
    pub fn signal(&self) {
        self.id.signal();
    }

    /// Sets the callback that the thread waits for, or `None` after the wait; returns the callback of
    /// the wait around it. Called by the thread itself.
    pub(crate) fn wait_for(&self, callback: Option<Arc<Callback>>) -> Option<Arc<Callback>> {
        let mut state = lock(&self.state);
        if state.raised
            && let Some(callback) = &callback
        {
            // The exception may still be pending, and was raised before an interrupt could wake the
            // callback.
            callback.note_interrupt();
        }
        std::mem::replace(&mut state.callback, callback)
    }

    /// Sets the waker of the event loop that runs in the thread, or `None` after its run; returns the
    /// waker of the loop around it. Called by the thread itself.
    pub(crate) fn set_loop_waker(&self, waker: Option<Arc<LoopWaker>>) -> Option<Arc<LoopWaker>> {
        std::mem::replace(&mut lock(&self.state).loop_waker, waker)
    }

    /// Sets the asyncio tasks of the lease that the thread serves. Called by the thread itself.
    pub(crate) fn set_tasks(&self, tasks: &Arc<TaskList>) {
        lock(&self.state).tasks = Arc::downgrade(tasks);
    }

    /// Returns the asyncio tasks of the lease that the thread serves. Called by the inspector.
    pub(crate) fn tasks(&self) -> Option<Arc<TaskList>> {
        lock(&self.state).tasks.upgrade()
    }

    /// Declares that the frame which the calling thread runs, and those around it, are no code of a job.
    /// The frame must go on for as long as the thread.
    pub fn set_base(&self, _: Python<'_>) {
        // SAFETY: attached. The reference is borrowed, and only its address is kept.
        let frame = unsafe { ffi::PyEval_GetFrame() };
        self.base.store(frame.addr(), Ordering::Relaxed);
    }

    pub(crate) fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    /// Returns the identity by which Python knows the thread.
    pub(crate) fn ident(&self) -> u64 {
        self.id.ident.cast_unsigned()
    }

    /// Returns the waker of the event loop that runs in the thread, if one runs.
    pub fn loop_waker(&self) -> Option<Arc<LoopWaker>> {
        lock(&self.state).loop_waker.clone()
    }
}
