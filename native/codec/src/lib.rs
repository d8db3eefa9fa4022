//! Values: Python objects to Erlang terms and terms to Python objects, without a BEAM.
//!
//! # Layout
//!
//! A module uses only those above it in this list.
//!
//! - `limits`, `error`: how much is converted, and what ends a conversion.
//! - `python_ffi`: containers of Python through the C level.
//! - `opaque`: [`Term`], what Python holds of a term without a form of its own; an [`Opaque`] is behind it.
//! - `view`, `text`: the memoryview of `{view, Binary}`, which keeps a [`ByteOwner`] alive; binaries as text.
//! - `read`: [`read()`] reads a [`Reader`] once, and builds objects.
//! - `write`: [`write()`] walks a Python object once, and tells a [`Writer`] what it finds. The order of
//!   types and every limit stand there.
//! - [`etf`]: the external term format: an encoder, which is a `Writer`, and a decoder, which is a `Reader`.
//!
//! Everything here runs on a thread that is attached to Python, and blocks on nothing. Code of a
//! program may run in the middle: a garbage collection runs finalizers, and a key of a dict has
//! a hash of its own. Each function that can start such code says so.

mod error;
pub mod etf;
mod limits;
mod opaque;
mod python_ffi;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod view;
mod write;

pub use error::{Error, Stop, Unconvertible, Why};
pub use limits::{CHECK_INTERVAL, LIST_CELL, MAX_BYTES, MAX_DEPTH, MAX_TERMS};
pub use opaque::{Opaque, Term};
pub use read::{
    Constant, Fallible, Kind, Reader, Tag, integer, read, read_arguments, read_kwargs, read_name,
};
pub use view::ByteOwner;
pub use write::{Keys, Writer, Written, write};
