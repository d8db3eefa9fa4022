//! The interpreter: its classes, code objects and exceptions, and the state that the system and Python
//! keep for a thread. No module here knows of jobs. Called attached; only
//! [`switch_interval::detach`] blocks.

pub(crate) mod arena_cache;
pub(crate) mod audit_hook;
pub mod code_cache;
pub(crate) mod exception_class;
pub mod faulthandler;
pub mod fields;
pub mod garbage;
pub(crate) mod output;
pub(crate) mod std_streams;
pub mod switch_interval;
pub(crate) mod thread_state;
