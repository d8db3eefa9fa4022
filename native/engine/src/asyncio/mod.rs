//! The event loop of a lease: coroutines, the tasks of jobs that have returned one, and iterators.
//! Runs on the worker, attached.

mod event_loop;
mod iterators;
mod tasks;

pub(crate) use event_loop::{close_loops, module, note_load};
pub use event_loop::{complete, is_coroutine, loop_waker, run, settle};
pub use iterators::{close, close_all, collect, iterate, keep, next_batch};
pub use tasks::{begin, cancel, cancel_all, host};
