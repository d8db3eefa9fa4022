//! The protocol between a VM and a child process: the kinds of frames, and the fields of each. Constants
//! only.
//!
//! There are two sockets. `data` carries jobs and all that a child says; the child's main thread reads
//! it, and so what comes there has an order. `control` carries what must not wait for the main thread; a
//! thread of the child without Python reads it.
//!
//! In the tables `byte`, `word`, `bytes` and `text` are fields of [`crate::frame`], `term` is bytes with a
//! term in the external term format, and `special` is a byte: 1 if [`OBJECT`], [`OPAQUE`] or a binary
//! of at least [`MIN_MEMORY`](crate::frame::MIN_MEMORY) bytes is in the term that follows, else 0.

/// The version of the protocol, in the first frame of a child.
pub const VERSION: u64 = 4;

/// A frame of both directions, which comes with a descriptor of sealed memory: `byte` kind, `rest` the first
/// 24 bytes of the payload: whom it is for, if the descriptor is lost. The payload is in the memory.
pub const MEMORY: u8 = 255;

/// The tag of a Python object within a term, followed by the number that the child knows it by. Not one
/// of the external term format.
pub const OBJECT: u8 = 1;

/// The tag before a term that a child has got as a whole, since its parts have no form in Python, and gives back. Not one of
/// the external term format.
pub const OPAQUE: u8 = 2;

/// Frames to the child on `data`.
pub mod to_child {
    /// A job. `word` job, `word` lease or 0, `word` call in the middle of which it runs or 0, `word`
    /// generation of the registered functions, `word` configuration of logging, `word` generation of the
    /// reloaded modules, `bytes` caller, request.
    pub const JOB: u8 = 1;
    /// The end of a call of Erlang: `word` call, `byte` outcome, `rest` term. On `control` for a call
    /// whose thread is not the main one.
    pub const ANSWER: u8 = 2;
    /// Ends the lease of the child.
    pub const END_LEASE: u8 = 3;
    /// Closes an iterator: `word` stream.
    pub const CLOSE: u8 = 4;
    /// On `control`: interrupts a job, or for 0 a clean-up: `word` job.
    pub const INTERRUPT: u8 = 5;
    /// On `control`: Erlang has dropped its last handle of an object: `word` object.
    pub const RELEASE: u8 = 6;
    /// On both, so that it comes before the answers that follow: a monitored process has ended: `word` watch, `rest` term.
    pub const DOWN: u8 = 7;
    /// Ends the child once it is idle.
    pub const EXIT: u8 = 8;
    /// On `control`: asks for the stacks of the code: `word` number of the request.
    pub const INSPECT: u8 = 9;
    /// On `control`: has the code of a lease sampled: `word` number of the request, `word` lease, `word`
    /// milliseconds.
    pub const PROFILE: u8 = 10;
}

/// Frames of the child, on `data`.
pub mod from_child {
    /// `word` version. The first frame.
    pub const HELLO: u8 = 1;
    /// The preparation is done.
    pub const READY: u8 = 2;
    /// The preparation has failed: `rest` text.
    pub const FAILED: u8 = 3;
    /// The end of a job: `word` job, `byte` status, `special`, `rest` term.
    pub const REPLY: u8 = 4;
    /// A call of Erlang: `word` call, `word` job or 0, `byte` 1 on the main thread, `byte` function,
    /// `text` name, `special`, `rest` term: the list of arguments.
    pub const CALL: u8 = 5;
    /// The code does not wait for a call any more: `word` call.
    pub const END_CALL: u8 = 6;
    /// A message: `word` call that waits for the outcome or 0, `byte` 1 on the main thread, `bytes`
    /// destination, `special`, `rest` term.
    pub const SEND: u8 = 7;
    /// A question, which the VM answers at once as a call: `word` call, `byte` 1 on the main thread,
    /// `byte` question, `rest` its argument.
    pub const ASK: u8 = 8;
    /// A monitor has ended: `word` watch.
    pub const UNWATCH: u8 = 9;
    /// The lease is clean: `word` number of threads that go on, their names as `text`.
    pub const LEASE_ENDED: u8 = 10;
    /// An iterator is closed.
    pub const CLOSED: u8 = 11;
    /// The code of a job that must stop is in the middle of an import: `byte` 1; or was: 0.
    pub const IMPORTING: u8 = 12;
    /// Output: `word` job that the code belongs to or 0, `byte` 0 for standard output or 1 for error, `rest`
    /// text.
    pub const OUTPUT: u8 = 13;
    /// A log record: `word` job that the code belongs to or 0, `word` level, `text` logger, `text` file, `word`
    /// line, `text` function, `rest` message.
    pub const LOG: u8 = 14;
    /// A job without a lease has left threads that go on: `word` number of them, their names as `text`.
    pub const THREADS_LEFT: u8 = 15;
    /// The stacks of the code: `word` number of the request, a stack, `word` number of tasks, and of
    /// each: `word` job, a stack. A stack: `word` number of frames, innermost first, and of each: `text` file, `word` line, `text` function.
    pub const STACKS: u8 = 16;
    /// The samples of the code: `word` number of the request, `rest` folded stacks.
    pub const PROFILED: u8 = 17;
}

/// How a job has ended.
pub mod status {
    /// Statements have run, or an iterator is kept.
    pub const DONE: u8 = 0;
    pub const VALUE: u8 = 1;
    /// The job goes on as a task; another reply follows.
    pub const DEFERRED: u8 = 2;
    /// Items of a stream.
    pub const ITEMS: u8 = 3;
    /// The end of a stream.
    pub const END: u8 = 4;
    /// An exception: the term is `{Type, Info}`.
    pub const RAISED: u8 = 5;
    /// The value has no form in Erlang. In place of the term: `byte` cause, `bytes` text, and the path to
    /// the value, see `frame/unconvertible.rs`.
    pub const UNCONVERTIBLE: u8 = 6;
    pub const INTERRUPTED: u8 = 7;
    /// A panic in the child.
    pub const CRASHED: u8 = 8;
    /// The call in the middle of which the job should run has ended.
    pub const REFUSED: u8 = 9;
}

/// The requests of a job: `byte`, and its fields.
pub mod request {
    /// `text` module, `text` function, `bytes` term of the arguments, `bytes` term of the keyword
    /// arguments or nothing.
    pub const CALL: u8 = 1;
    /// `text` source, `bytes` term of the locals or nothing.
    pub const EVAL: u8 = 2;
    pub const EXEC: u8 = 3;
    /// `word` stream, and the source: a call or an expression.
    pub const OPEN: u8 = 4;
    /// `word` stream, `word` count.
    pub const NEXT: u8 = 5;
    /// A source.
    pub const COLLECT: u8 = 6;
    /// A source.
    pub const ASYNC: u8 = 7;
    pub const EMPTY: u8 = 8;
    /// As `EVAL`.
    pub const BLOCK: u8 = 9;
    /// As `CALL`, but `bytes` term of an object instead of the module.
    pub const CALL_METHOD: u8 = 10;
    /// A source: `bytes` term of an object.
    pub const OBJECT: u8 = 11;
    /// `byte` form of the value, and another request.
    pub const IN_FORM: u8 = 12;
}

/// The functions of a call.
pub mod function {
    pub const REGISTERED: u8 = 0;
    pub const WAIT_DOWN: u8 = 1;
    /// A registered function with keyword arguments: the term is the list of the list of arguments and
    /// the map.
    pub const WITH_KEYWORDS: u8 = 2;
    /// An operation on the shared state.
    pub const STATE: u8 = 3;
    /// A function of a module.
    pub const APPLY: u8 = 4;
}

/// The questions.
pub mod question {
    /// Whether a function is registered: a name. `VALUE` or `UNKNOWN`.
    pub const IS_REGISTERED: u8 = 0;
    /// The names of all registered functions. `VALUE` with a list of binaries.
    pub const REGISTERED: u8 = 1;
    /// The local process that is registered by a name. `VALUE` with a pid, or `UNKNOWN`.
    pub const WHEREIS: u8 = 2;
    /// Whether there is an atom of this name. `VALUE` or `UNKNOWN`.
    pub const ATOM: u8 = 3;
    /// Monitors the process that a term names. `VALUE` with the number of the watch, or `UNKNOWN`.
    pub const WATCH: u8 = 4;
    /// Whether more output of a job is written: `word` job or 0, `byte` 1 if the code has waited for that long
    /// enough. `VALUE` or `UNKNOWN`.
    pub const HAS_ROOM: u8 = 5;
    /// The names of the modules that were reloaded in the pool after a generation: `word` that. `VALUE`
    /// with a list of binaries.
    pub const RELOADED: u8 = 6;
}

/// The outcomes of calls and questions.
pub mod outcome {
    pub const VALUE: u8 = 0;
    /// The function has failed: the term is `{Class, Reason, Stacktrace}`.
    pub const FAILED: u8 = 1;
    /// No function or process has the name.
    pub const UNKNOWN: u8 = 2;
    /// The process of the function has ended without an answer.
    pub const LOST: u8 = 3;
    /// Too many messages wait for the node.
    pub const OVERLOADED: u8 = 4;
    /// The value has no form in Python: `rest` text.
    pub const UNCONVERTIBLE: u8 = 5;
    /// The registered function takes no keyword arguments.
    pub const NO_KEYWORDS: u8 = 6;
    /// The function has failed with a reason that has no form in Python: `bytes` reason, `bytes` stacktrace, `rest`
    /// all three as a term.
    pub const FAILED_OPAQUE: u8 = 7;
}
