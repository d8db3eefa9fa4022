//! Python worker threads for the BEAM: the NIF.
//!
//! # Layout
//!
//! A module uses only those above it in this list.
//!
//! - [`atoms`], [`live_counts`], [`vm`]: the table of atoms; how many values are alive; what there is
//!   once in a VM.
//! - [`term`]: terms of the BEAM, for the codec; handles on Python objects.
//! - [`exception`], [`error`]: everything that can go wrong with a job.
//! - [`convert`]: the values of jobs.
//! - [`job`]: one call, eval or exec: its ticket, its request, its reply; a call of Erlang.
//! - [`gil`]: how a worker waits, and which worker runs Python next.
//! - [`pool`]: the queue of unbound jobs, leases, and their handles.
//! - [`stream`]: a stream and its demand.
//! - [`watch`]: the threads that run Python, for those who may have to stop one.
//! - [`host`]: how a job runs on a thread, and what its code may ask of Erlang.
//! - [`worker`]: the threads: workers, releaser, watchdog.
//! - [`start`]: starts Python and the threads that serve it.
//! - [`target`]: where a job goes.
//! - [`nif`]: every NIF, in the order of `src/py_nif.erl`.
//!
//! No thread holds a lock while it attaches to Python, attaches while it holds one, or keeps
//! one across Python code. See `docs/internals/overview.md` for the threads and what each may do.

mod atoms;
mod convert;
mod error;
mod exception;
mod gil;
mod host;
mod job;
mod live_counts;
mod nif;
mod pool;
mod start;
mod stream;
mod target;
mod term;
mod vm;
mod watch;
mod worker;

rustler::init!("py_nif");
