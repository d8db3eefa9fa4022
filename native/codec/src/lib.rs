//! The codec: Python objects to Erlang terms, and terms to Python objects. Nothing in this crate needs
//! a BEAM.
//!
//! # Layout
//!
//! A module uses only those above it in this list.
//!
//! - `limits`, `error`, `rules`: the limits and the errors of a conversion, and what its host decides: [`Rules`].
//! - [`memory`], [`protocol`], [`frame`]: the frames between a VM and a child process, and the memory and
//!   descriptors that come with them.
//! - `python_ffi`: containers of Python through the C level.
//! - `opaque`: [`Term`], the Python object for a term without a Python form, over an [`Opaque`].
//! - `view`, `text`: the memoryview of `{view, Binary}`, which keeps a [`ByteOwner`] alive; binaries as text.
//! - `read`: [`read()`] reads a [`Reader`] once, and builds objects.
//! - `write`: [`write()`] walks a Python object once, and calls a [`Writer`] for each part. The order of
//!   types and every limit stand there.
//! - [`etf`]: the external term format: an encoder, which is a `Writer`, and a decoder, which is a `Reader`.
//!
//! The host calls the codec on the thread that converts, attached; nothing here blocks. Code of a
//! program may run in the middle: a garbage collection runs finalizers, and the class of a key of a
//! dict may define `__hash__`. Each function that can run such code says so.

mod error;
pub mod etf;
pub mod frame;
mod limits;
pub mod memory;
mod opaque;
pub mod protocol;
mod python_ffi;
mod read;
mod rules;
#[cfg(test)]
mod tests;
mod text;
mod view;
mod write;

pub use error::{Error, Step, Stop, Unconvertible, Why};
pub use limits::{CHECK_INTERVAL, LIST_CELL, MAX_BYTES, MAX_DEPTH, MAX_TERMS};
pub use opaque::{Opaque, Term};
pub use read::{
    Constant, Fallible, Kind, Reader, Tag, integer, read, read_arguments, read_kwargs, read_name,
};
pub use rules::{Form, NoneAtom, Rules};
pub use view::ByteOwner;
pub use write::{Keys, Writer, Written, write};
