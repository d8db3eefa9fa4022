//! The engine: an interpreter, its namespaces and its threads, in which a host runs Python code.
//! Nothing in this crate needs a BEAM.
//!
//! # Layout
//!
//! A module uses only those above it in this list.
//!
//! - [`lock`], [`notify`]: the one way to take a lock; wakes the watchdog, the interrupter, the releaser.
//! - [`released`]: the objects that the releaser drops.
//! - [`host`]: the questions that the engine asks its host; a [call of Erlang](host::callback).
//! - `task_list`: the asyncio tasks of a lease, as its worker and the inspector see them.
//! - [`wake_fd`]: a descriptor that wakes a thread which polls.
//! - [`loop_waker`], `code_table`: wakes an event loop; compiled code by its source.
//! - `interpreter`: the objects that are looked up in Python once.
//! - [`python`]: classes, code objects, the state that Python and the system keep for a thread.
//! - [`interrupt`]: an exception that is raised in another thread, and the mask that puts it off.
//! - [`inspect`]: looks at the Python code that other threads run.
//! - [`exception`]: a Python exception as plain data.
//! - [`namespace`]: the globals of a lease, its `__main__`, and the clean-up of its thread.
//! - [`call_stack`]: the calls that a thread is in the middle of.
//! - [`asyncio`]: the event loop of a lease, tasks, iterators.
//! - [`erlang`]: the module `erlang`.
//! - [`execute`]: runs a request.
//! - [`start`]: starts the interpreter.
//!
//! A host starts the interpreter, opens a thread for each worker, enters a namespace, and runs
//! requests in it within a call of the call stack.

pub mod asyncio;
pub mod call_stack;
mod code_table;
pub mod erlang;
pub mod exception;
pub mod execute;
pub mod host;
pub mod inspect;
mod interpreter;
pub mod interrupt;
pub mod lock;
pub mod loop_waker;
pub mod namespace;
pub mod notify;
pub mod python;
pub mod released;
pub mod start;
mod task_list;
pub mod wake_fd;
