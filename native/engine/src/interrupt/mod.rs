//! Interrupts: an exception that is raised in another thread, and the mask that puts it off.
//!
//! A [`Thread`] is what the engine knows of a thread that runs Python: whether an exception is due or
//! was raised, how many masks are active, and what wakes the thread while it waits. The host decides
//! which thread must stop, calls [`Thread::request`], and wakes the [interrupter]; the interrupter
//! raises, attached; the thread itself masks, and withdraws at the end of a task what was raised too
//! late.

mod import_locks;
mod interrupter;
mod mask;
mod raise;
mod thread;

pub(crate) use import_locks::install as mask_imports;
pub use interrupter::start as start_interrupter;
pub use mask::InterruptMask;
pub(crate) use mask::mask_interrupts;
pub use raise::{Attached, Interrupted, flush, unblock_signal};
pub(crate) use raise::{find, install_handler, take};
pub use thread::{Raised, Thread};

use crate::interpreter;

/// Wakes the interrupter, which looks at every thread. Never blocks.
pub fn notify_interrupter() {
    if let Some(interpreter) = interpreter::get() {
        interpreter.interrupts.notify.notify();
    }
}
