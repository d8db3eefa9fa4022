//! The jobs that a thread is in the middle of, innermost last. Used by that thread only, attached.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use crate::context::Lease;
use crate::job::Job;
use crate::namespace::Namespace;

/// Where something runs.
#[derive(Clone)]
pub(crate) struct Frame {
    /// `None` for the asynchronous calls of a lease, each of which has its own.
    pub(crate) job: Option<Arc<Job>>,
    pub(crate) lease: Option<Arc<Lease>>,
    pub(super) namespace: Rc<Namespace<'static>>,
    /// Tells the frames of a thread apart.
    id: u64,
}

#[derive(Default)]
pub(super) struct Frames {
    stack: RefCell<Vec<Frame>>,
    next_id: Cell<u64>,
}

impl Frames {
    pub(super) fn innermost(&self) -> Option<Frame> {
        self.stack.borrow().last().cloned()
    }

    /// The innermost, if there is no other.
    pub(super) fn only(&self) -> Option<Frame> {
        match &**self.stack.borrow() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// The frame stays until what is returned is dropped.
    pub(super) fn push(
        &self,
        job: Option<&Arc<Job>>,
        lease: Option<&Arc<Lease>>,
        namespace: &Rc<Namespace<'_>>,
    ) -> Pop<'_> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let namespace = Rc::clone(namespace);
        // SAFETY: the lifetime is that of the attachment of this thread, which lasts as long as
        // anything that uses its frames.
        let namespace =
            unsafe { mem::transmute::<Rc<Namespace<'_>>, Rc<Namespace<'static>>>(namespace) };
        let frame = Frame {
            job: job.cloned(),
            lease: lease.cloned(),
            namespace,
            id,
        };
        self.stack.borrow_mut().push(frame);
        let stack = &self.stack;
        Pop { stack, id }
    }
}

/// Takes a frame away, whatever has happened in it.
///
/// Frames end in the order of the stack, unless code switches stacks: with `greenlet`, a job may end
/// while one that is nested in it is suspended on another stack. The frame of the nested job goes
/// with that of the outer one, and the nested job finds out when it goes on.
pub(super) struct Pop<'a> {
    stack: &'a RefCell<Vec<Frame>>,
    id: u64,
}

impl Pop<'_> {
    /// The frame is still there.
    pub(super) fn is_current(&self) -> bool {
        self.stack.borrow().iter().any(|frame| frame.id == self.id)
    }
}

impl Drop for Pop<'_> {
    fn drop(&mut self) {
        let mut stack = self.stack.borrow_mut();
        let own = stack.iter().rposition(|frame| frame.id == self.id);
        let ended = own.map(|index| stack.split_off(index));
        // What they refer to is dropped after the borrow.
        drop(stack);
        drop(ended);
    }
}
