//! Python worker threads for the BEAM.
//!
//! # Layout
//!
//! - [`nif`]: every NIF, in the order of `src/py_nif.erl`. Runs on scheduler threads.
//! - [`python`]: starts the interpreter once, on a thread of its own.
//! - [`pool`]: what the workers of one application start share.
//! - [`worker`]: what a thread that runs Python does.
//! - [`thread`]: how it starts, how it ends, and who follows it.
//! - [`slot`]: what a worker does at the moment, for those who may have to stop it.
//! - [`watchdog`]: stops what must stop, and replaces what cannot.
//! - [`interrupt`]: raises in another thread, and breaks its system calls.
//! - [`release`]: drops the objects that Erlang no longer holds.
//! - [`queue`]: the bounded queues.
//! - [`turn`]: how a worker waits, and whose turn it is to run Python.
//! - [`context`]: a lease of one worker, and the handles that Erlang holds.
//! - [`target`]: where a job goes.
//! - [`job`]: one call, eval or exec: its shapes, and their decoding.
//! - [`execution`]: what they do.
//! - [`station`]: where the calling thread runs them, also one within another.
//! - [`erlang`]: the Python module by which Python code talks to Erlang.
//! - [`callback`]: a call of an Erlang function by Python code.
//! - [`waker`]: how a thread that waits for one is woken.
//! - [`stream`]: a stream, for Erlang; [`iterators`]: what is behind it, for the worker.
//! - [`coroutines`]: the event loop of a context; [`flights`]: asynchronous calls in it.
//! - [`bell`]: what wakes such a loop.
//! - [`switch`]: how soon it gets the GIL from code that computes.
//! - [`lent`]: environments of jobs, which are used again.
//! - [`ticket`]: the one atomic that decides between reply and cancel.
//! - [`submission`]: a job that was submitted, for those who may cancel it.
//! - [`reply`]: the only room that sends.
//! - [`namespace`]: the globals of a context, and `__main__`.
//! - [`garbage`]: what it leaves in reference cycles.
//! - [`tidy`]: what a context leaves on its thread.
//! - [`stdio`]: `sys.stdout` and `sys.stderr`.
//! - [`threads`]: the Python threads that a context starts.
//! - [`audit`]: refuses forks and signals.
//! - [`code`]: compiled code and its source lines.
//! - [`convert`]: terms to objects, objects to terms.
//! - [`object`]: Python objects that Erlang holds, Erlang terms that Python holds.
//! - [`error`], [`exception`], [`traceback`] and [`kind`]: what went wrong, and how Erlang sees it.
//! - [`fatal`]: what is written before the VM dies.
//! - [`exit`]: the end of the VM while Python code runs.
//! - [`arenas`]: keeps memory that Python gives back.
//! - [`imports`]: an import that has begun is not interrupted.
//! - [`census`]: how many of our things are alive.
//! - [`atoms`]: the one table of atoms.
//!
//! No thread holds a lock while it attaches to Python, attaches while it holds one, or keeps
//! one across Python code. See `docs/architecture.md` for the threads and what each may do.

mod arenas;
mod atoms;
mod audit;
mod bell;
mod callback;
mod census;
mod code;
mod context;
mod convert;
mod coroutines;
mod erlang;
mod error;
mod exception;
mod execution;
mod exit;
mod fatal;
mod fields;
mod flights;
mod garbage;
mod imports;
mod interrupt;
mod iterators;
mod job;
mod kind;
mod lent;
mod namespace;
mod nif;
mod object;
mod pool;
mod python;
mod queue;
mod release;
mod reply;
mod slot;
mod station;
mod stdio;
mod stream;
mod submission;
mod switch;
mod target;
mod thread;
mod thread_state;
mod threads;
mod ticket;
mod tidy;
mod traceback;
mod turn;
mod waker;
mod watchdog;
mod worker;

rustler::init!("py_nif");
