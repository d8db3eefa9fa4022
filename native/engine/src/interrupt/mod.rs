//! Interrupts: an exception that is raised in another thread, and the mask that puts it off.
//!
//! A [`Thread`] is the engine's record of a thread that runs Python: whether an exception is pending
//! or was raised, how many masks are active, and the wakers of the thread. The host decides which
//! thread must stop, calls [`Thread::request`], and notifies the [interrupter]; the interrupter
//! raises, attached; the thread itself masks, and withdraws at the end of a task an exception that
//! was not delivered. Only the interrupter waits here.

mod import_locks;
mod interrupter;
mod loop_mask;
mod mask;
mod raise;
mod thread;

pub(crate) use import_locks::install as mask_imports;
pub(crate) use interrupter::attached;
pub use interrupter::start as start_interrupter;
pub use loop_mask::LoopMask;
pub(crate) use loop_mask::{masked, take_interrupt, unmasked};
pub use mask::InterruptMask;
pub(crate) use mask::mask_interrupts;
pub use raise::{Attached, Interrupted, flush, unblock_signal};
pub(crate) use raise::{find, install_handler, take};
pub use thread::{Raised, Thread};

use crate::interpreter;

/// Makes the interrupter look at every thread. Called on any thread, attached or not; never blocks.
pub fn notify_interrupter() {
    if let Some(interpreter) = interpreter::get() {
        interpreter.interrupts.notify.notify();
    }
}
