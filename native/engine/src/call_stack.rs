//! The calls that a thread is in the middle of, innermost last. There are several when the process
//! that answers a callback submits jobs itself.
//!
//! Thread-local, since the code of a call comes back here through Python. Used attached.

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

/// One call under way, or the event loop of a lease.
#[derive(Clone)]
pub struct ActiveCall {
    pub host: Arc<dyn Host>,
    pub namespace: Rc<Namespace<'static>>,
    /// Tells the calls of a thread apart.
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

/// The innermost call of the calling thread. `None` between two calls, while the worker cleans up,
/// and on a thread that serves no jobs.
#[must_use]
pub fn innermost() -> Option<ActiveCall> {
    let last = |calls: &Calls| calls.stack.borrow().last().cloned();
    // Fails while the thread ends.
    CALLS.try_with(last).ok().flatten()
}

/// The calling thread is in exactly one call. An asyncio task of the lease makes no progress during
/// a nested one.
#[must_use]
pub fn is_outermost() -> bool {
    CALLS.with(|calls| calls.stack.borrow().len() == 1)
}

/// Runs `body`, whose code finds its call by the call stack. Returns also whether the call was still on
/// the stack at the end.
///
/// Calls end in the order of the stack, unless code switches C stacks: with `greenlet`, a call may
/// end while one that is nested in it is suspended on another stack. The nested call goes from the
/// stack with the outer one, and finds out here when it goes on.
pub fn with_call<T>(
    host: &Arc<dyn Host>,
    namespace: &Rc<Namespace<'_>>,
    body: impl FnOnce() -> T,
) -> (T, bool) {
    CALLS.with(|calls| {
        let id = calls.next_id.get();
        calls.next_id.set(id + 1);
        // SAFETY: the lifetime is that of the attachment of this thread, which lasts as long as
        // anything that uses its call stack.
        let namespace = unsafe {
            mem::transmute::<Rc<Namespace<'_>>, Rc<Namespace<'static>>>(Rc::clone(namespace))
        };
        calls.stack.borrow_mut().push(ActiveCall {
            host: Arc::clone(host),
            namespace,
            id,
        });
        let pop = Pop { calls, id };
        let done = body();
        (done, pop.is_there())
    })
}

/// Takes a call from the stack, and what is nested in it, also when `body` panics.
struct Pop<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Pop<'_> {
    fn is_there(&self) -> bool {
        self.calls
            .stack
            .borrow()
            .iter()
            .any(|call| call.id == self.id)
    }
}

impl Drop for Pop<'_> {
    fn drop(&mut self) {
        let mut stack = self.calls.stack.borrow_mut();
        let own = stack.iter().rposition(|call| call.id == self.id);
        let ended = own.map(|index| stack.split_off(index));
        // What the calls refer to is dropped after the borrow.
        drop(stack);
        drop(ended);
    }
}
