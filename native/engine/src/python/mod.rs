//! The interpreter as such: its classes, code objects, exceptions, and what the system and Python keep
//! for a thread. Below everything that knows of jobs. Called attached.

pub(crate) mod arena_cache;
pub(crate) mod audit_hook;
pub mod code_cache;
pub(crate) mod exception_class;
pub mod faulthandler;
pub mod fields;
pub mod garbage;
pub(crate) mod std_streams;
pub mod switch_interval;
pub(crate) mod thread_state;
