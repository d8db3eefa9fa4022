//! A thread that runs Python, for those who interrupt it.
//!
//! The thread itself begins and ends tasks, masks and waits, attached. The interrupter raises,
//! attached. The host's watchdog requests and abandons, and never attaches. The lock is held for a
//! few instructions, never across Python code and never while attaching; the host may hold a lock of
//! its own while it takes this one, never the other way round.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};

use super::raise::{Attached, ThreadId, forget_raised};
use super::{Interrupted, raise};
use crate::host::callback::Callback;
use crate::lock::lock;
use crate::loop_waker::LoopWaker;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Thread>>> = const { RefCell::new(None) };
}

pub struct Thread {
    id: ThreadId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The interrupter is to raise an exception in the thread.
    pending: bool,
    /// The interrupter has raised one, which may not be delivered yet.
    raised: bool,
    /// How many masks are active. While there is one, `raise` does nothing and `pending` stays set.
    masks: usize,
    /// How many loads of modules the thread is in, each a mask as well.
    imports: usize,
    /// The thread was replaced, and ends when its task does.
    abandoned: bool,
    /// The call of Erlang that the code waits for, in the middle of its task.
    callback: Option<Arc<Callback>>,
    /// Wakes the event loop that runs here, if one does.
    loop_waker: Option<Arc<LoopWaker>>,
}

/// What a round of the interrupter has done to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    Nothing,
    /// An exception, in a thread that serves jobs.
    InTime,
    /// An exception, in a thread that was abandoned.
    Abandoned,
}

impl Thread {
    /// The calling thread, which is known from now on until [`Thread::leave`].
    #[must_use]
    pub fn enter() -> Arc<Self> {
        Self::current().unwrap_or_else(|| {
            let thread = Arc::new(Self {
                id: ThreadId::current(),
                state: Mutex::default(),
            });
            CURRENT.set(Some(Arc::clone(&thread)));
            thread
        })
    }

    /// The calling thread, if it is known and not about to end.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        let current = CURRENT.try_with(|current| current.borrow().clone());
        current.ok().flatten()
    }

    /// Forgets what was requested and masked before. Called when the thread begins a task and runs
    /// no other.
    pub fn begin(&self) {
        let mut state = lock(&self.state);
        state.pending = false;
        state.masks = 0;
        state.imports = 0;
    }

    /// Withdraws what was raised too late, and what was requested. Called, attached, when the thread
    /// ends a task.
    pub fn end(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.raised) {
            self.id.unraise(py);
        }
        state.pending = false;
    }

    /// As `end`, for a thread that Python does not know any more: its identity may be another's
    /// soon, so nothing may be raised here from now on, or withdrawn.
    pub fn leave(&self) {
        let mut state = lock(&self.state);
        state.pending = false;
        if std::mem::take(&mut state.raised) {
            forget_raised();
        }
        drop(state);
        // Fails while the thread ends.
        let _: Result<_, _> = CURRENT.try_with(RefCell::take);
    }

    /// Has the interrupter raise an exception in the thread, in its next round. Does not attach.
    pub fn request(&self) {
        lock(&self.state).pending = true;
    }

    /// Raises what was requested, unless a mask is active or the task has ended since.
    pub(super) fn raise(&self, py: Attached<'_>) -> Raised {
        let mut state = lock(&self.state);
        if state.masks > 0 || !std::mem::take(&mut state.pending) {
            return Raised::Nothing;
        }
        state.raised = true;
        self.id.raise(py);
        let (callback, loop_waker) = (state.callback.clone(), state.loop_waker.clone());
        let raised = if state.abandoned {
            Raised::Abandoned
        } else {
            Raised::InTime
        };
        drop(state);
        if let Some(callback) = callback {
            callback.interrupt();
        }
        if let Some(waker) = loop_waker {
            // A loop that waits for its descriptors waits on after a signal (PEP 475).
            waker.wake();
        }
        raised
    }

    /// Withdraws what was raised in an abandoned thread, if it was not delivered.
    pub(super) fn withdraw(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.raised) {
            self.id.unraise(py);
        }
    }

    /// COMPAT(3.12): clears the interpreter's flag, if it is set for nothing, by an exception that is
    /// raised and swallowed here. Called by the thread itself, in a task.
    pub fn absorb(&self, py: Attached<'_>) {
        self.id.absorb(py);
    }

    /// Puts exceptions off, also one that is pending. Called by the thread itself.
    pub(super) fn mask(&self, py: Python<'_>) {
        let mut state = lock(&self.state);
        state.masks += 1;
        let may_be_pending = std::mem::take(&mut state.raised);
        drop(state);
        // One that was raised already must not be raised once more, while code cleans up.
        let is_ours = |error: PyErr| error.is_instance_of::<Interrupted>(py);
        if may_be_pending && raise::take(py).is_some_and(is_ours) {
            self.request();
        }
    }

    /// Ends a mask. An exception that was put off is raised at once, if there is no other mask.
    pub(super) fn unmask(&self, py: Attached<'_>) {
        let mut state = lock(&self.state);
        // A task may have begun, and reset the count, in the middle.
        state.masks = state.masks.saturating_sub(1);
        drop(state);
        self.raise(py);
    }

    pub(super) fn begin_import(&self) {
        lock(&self.state).imports += 1;
    }

    /// Counts a load less; the caller has told the host before, if it is the outermost.
    pub(super) fn end_import(&self) {
        let mut state = lock(&self.state);
        state.imports = state.imports.saturating_sub(1);
    }

    /// The load that is about to end is the outermost.
    pub(super) fn is_outermost_import(&self) -> bool {
        lock(&self.state).imports == 1
    }

    /// A module is loaded on the thread: exceptions are put off.
    pub fn is_importing(&self) -> bool {
        lock(&self.state).imports > 0
    }

    /// The thread was replaced: it ends when its task does. Does not attach.
    pub fn abandon(&self) {
        lock(&self.state).abandoned = true;
        self.id.rename(c"py_abandoned");
    }

    pub fn is_abandoned(&self) -> bool {
        lock(&self.state).abandoned
    }

    /// Breaks a system call of the thread, which runs a task: the call returns `EINTR`, and Python
    /// looks for a pending exception before it calls again.
    pub fn signal(&self) {
        self.id.signal();
    }

    /// Names the thread for who looks at the threads of the VM. At most 15 bytes.
    pub fn rename(&self, name: &CStr) {
        self.id.rename(name);
    }

    /// Notes the call of Erlang that the thread waits for, or `None` at its end; returns the one before.
    pub(crate) fn wait_for(&self, callback: Option<Arc<Callback>>) -> Option<Arc<Callback>> {
        let mut state = lock(&self.state);
        if state.raised
            && let Some(callback) = &callback
        {
            // The exception may not be delivered yet.
            callback.note_interrupt();
        }
        std::mem::replace(&mut state.callback, callback)
    }

    /// Notes the event loop that runs in the thread, or `None` at its end; returns the one before.
    pub(crate) fn run_loop(&self, waker: Option<Arc<LoopWaker>>) -> Option<Arc<LoopWaker>> {
        std::mem::replace(&mut lock(&self.state).loop_waker, waker)
    }

    /// Wakes the event loop that runs in the thread, if one does.
    pub fn loop_waker(&self) -> Option<Arc<LoopWaker>> {
        lock(&self.state).loop_waker.clone()
    }
}
