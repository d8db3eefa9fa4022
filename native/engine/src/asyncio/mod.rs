//! The event loop of a lease: the tasks of jobs that have returned a coroutine, and iterators.
//!
//! The loop is made for the first coroutine of the lease and closed at its end. In between the worker
//! runs it until a waker wakes it, or a blocking call runs it until its awaitable is done. Called on
//! the worker of the lease, attached; blocks only in the loop, which detaches while it waits.

mod event_loop;
mod iterators;
mod tasks;

pub(crate) use event_loop::{close_loops, module, note_load};
pub use event_loop::{complete, is_coroutine, loop_waker, run, settle};
pub use iterators::{close, close_all, collect, iterate, keep, next_batch};
pub use tasks::{begin, cancel, cancel_all, cancel_if, host};
