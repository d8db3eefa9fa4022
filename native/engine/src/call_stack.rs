//! The call stack of a thread: the calls that it is in the middle of, innermost last. There are
//! several while the process of a callback submits jobs itself.
//!
//! Thread-local, since code of a call reaches the engine again through Python, which passes no value
//! of the engine on. Used by the thread itself, attached; blocks on nothing.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use crate::host::Host;
use crate::namespace::Namespace;

thread_local! {
    static CALLS: Calls = const { Calls::new() };
}

struct Calls {
    stack: RefCell<Vec<ActiveCall>>,
    next_id: Cell<u64>,
}

/// One call under way, or one run of the event loop of a lease.
#[derive(Clone)]
pub struct ActiveCall {
    pub host: Arc<dyn Host>,
    pub namespace: Rc<Namespace<'static>>,
    /// Different from the id of every other call of the thread.
    id: u64,
}

impl Calls {
    const fn new() -> Self {
        Self {
            stack: RefCell::new(Vec::new()),
            next_id: Cell::new(0),
        }
    }
}

/// Returns the innermost call of the calling thread; `None` between two calls, while the worker
/// cleans up, and on a thread that serves no jobs.
#[must_use]
pub fn innermost() -> Option<ActiveCall> {
    let last = |calls: &Calls| calls.stack.borrow().last().cloned();
    // Fails while the thread ends, when its thread-locals are gone.
    CALLS.try_with(last).ok().flatten()
}

/// Whether the calling thread is in exactly one call. During a nested call no asyncio task of the
/// lease makes progress.
#[must_use]
pub fn is_outermost() -> bool {
    CALLS.with(|calls| calls.stack.borrow().len() == 1)
}

/// Pushes a call, runs `body`, and pops the call. Returns the result of `body`, and whether the call
/// was still on the stack then. Called by the host on the thread that serves the job.
///
/// Calls end in the order of the stack, unless code switches C stacks: with `greenlet`, a call may
/// end while one that is nested in it is suspended on another stack. The nested call is popped with
/// the outer one, and gets `false` when it is resumed and returns.
pub fn with_call<T>(
    host: &Arc<dyn Host>,
    namespace: &Rc<Namespace<'_>>,
    body: impl FnOnce() -> T,
) -> (T, bool) {
    CALLS.with(|calls| {
        let id = calls.next_id.get();
        calls.next_id.set(id + 1);
        // SAFETY: `'py` is the attachment of this thread; the call is popped before `with_call`
        // returns, and only attached code of this thread reads the stack.
        let namespace = unsafe {
            mem::transmute::<Rc<Namespace<'_>>, Rc<Namespace<'static>>>(Rc::clone(namespace))
        };
        calls.stack.borrow_mut().push(ActiveCall {
            host: Arc::clone(host),
            namespace,
            id,
        });
        let pop = PopGuard { calls, id };
        let done = body();
        (done, pop.is_on_stack())
    })
}

/// Pops a call, and the calls that are nested in it, also when `body` panics.
struct PopGuard<'a> {
    calls: &'a Calls,
    id: u64,
}

impl PopGuard<'_> {
    fn is_on_stack(&self) -> bool {
        self.calls
            .stack
            .borrow()
            .iter()
            .any(|call| call.id == self.id)
    }
}

impl Drop for PopGuard<'_> {
    fn drop(&mut self) {
        let mut stack = self.calls.stack.borrow_mut();
        let index = stack.iter().rposition(|call| call.id == self.id);
        let ended = index.map(|index| stack.split_off(index));
        // The calls are dropped after the borrow: a finalizer may run, and look at the stack.
        drop(stack);
        drop(ended);
    }
}
