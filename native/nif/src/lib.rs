//! The NIF: Python worker threads for the BEAM.
//!
//! # Layout
//!
//! A module uses only those above it in this list.
//!
//! - [`atoms`], [`live_counts`], `output_queue`, `callback_server`, [`vm`]: the table of atoms; counters of
//!   live values; what Python code has written; the process that Python code calls; the state that a VM has
//!   once.
//! - [`term`]: terms of the BEAM as the codec's reader and writer; handles on Python objects.
//! - [`exception`], [`error`]: every error of a job, as a term.
//! - [`convert`]: arguments and results of jobs, both ways.
//! - [`job`]: one call, eval, exec or demand: ticket, request and reply; a call of Erlang.
//! - [`gil`]: GIL turns: how a worker parks, and which worker attaches next.
//! - [`pool`]: the queue of unbound jobs, leases, and their handles.
//! - [`submit`]: the submission of a job.
//! - [`stream`]: a stream and its demand.
//! - [`watch`]: the threads that run Python, as the watchdog and `py:interrupt/1` see them.
//! - `stacks`: the answers to a dump and to a profile.
//! - [`host`]: how a job runs on a thread, and the functions that its code calls in Erlang.
//! - [`process`]: pools of child processes, their workers, and the thread that reads from them.
//! - `inspect`: the NIFs by which a dump and a profile look at the workers.
//! - [`worker`]: the threads: workers, releaser, watchdog.
//! - [`start`]: starts Python and the threads that serve it.
//! - `settings`: the NIFs by which the application sets how values are converted, and takes output.
//! - [`nif`]: every other NIF, in the order of `src/py_nif.erl`.
//!
//! No thread attaches to Python, or runs Python code, while it holds a lock. The section "Threads"
//! of `docs/internals/overview.md` says which thread may attach, block and send.

mod atoms;
mod callback_server;
mod convert;
mod error;
mod exception;
mod gil;
mod host;
mod inspect;
mod job;
mod live_counts;
mod nif;
mod output_queue;
mod pool;
mod process;
mod settings;
mod stacks;
mod start;
mod stream;
mod submit;
mod term;
mod vm;
mod watch;
mod worker;

rustler::init!("py_nif");
