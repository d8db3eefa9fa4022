//! The threads that run Python, as those see them who may have to stop one: what a thread runs at the
//! moment, when it has to stop, and what comes after that. Never attaches.

mod escalation;
mod registry;
mod vm_exit;
mod watched_thread;

pub(crate) use escalation::Limits;
pub(crate) use registry::{
    abandoned, end_watching, engine_threads, guard, interrupt, is_watching, limits, pools,
    register, releaser_is_missing, set_releaser_is_missing, threads, unregister,
};
pub(crate) use vm_exit::{expect_strays, install as install_exit_handler};
pub(crate) use watched_thread::{Role, Task, WatchedThread};
