//! Watched threads: what each thread that runs Python is in the middle of, since when it has to
//! stop, and what the watchdog does next about it.
//!
//! States of a thread: idle, running tasks, a task of it has to stop (it has an [`Escalation`]), or
//! abandoned; `docs/internals/interrupts.md` draws them. The threads themselves call it attached,
//! the watchdog and scheduler threads without; nothing here attaches, and locks are held for a
//! look.
//!
//! [`Escalation`]: escalation::Escalation

mod escalation;
mod look;
mod registry;
mod vm_exit;
mod watched_thread;

pub(crate) use escalation::Limits;
pub(crate) use look::{Running, WorkerState, job_key};
pub(crate) use registry::{
    abandoned, add_pool, end_watching_cleaning, engine_threads, interrupt, is_watching_cleaning,
    limits, pools, register, releaser_is_missing, set_releaser_is_missing, threads, unregister,
    watch_pool,
};
pub(crate) use vm_exit::{expect_left_threads, install as install_exit_handler};
pub(crate) use watched_thread::{Role, Task, WatchedThread};
