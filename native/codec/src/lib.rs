//! Values: Python objects to Erlang terms and terms to Python objects, without a BEAM.
//!
//! # Layout
//!
//! - [`write()`] walks a Python object once, and tells a [`Writer`] what it finds. The order of
//!   types and every limit stand there.
//! - [`read()`] reads what a [`Reader`] stands at once, and builds objects.
//! - [`etf`] is the external term format: an encoder, which is a `Writer`, and a decoder, which
//!   is a `Reader`.
//! - [`Term`] is what Python holds of a term without a Python form; an [`Opaque`] is behind it.
//! - [`ByteOwner`] is what the memoryview of `{view, Binary}` keeps alive.
//!
//! Everything here runs on a thread that is attached to Python, and blocks on nothing. Code of a
//! program may run in the middle: a garbage collection runs finalizers, and a key of a dict has
//! a hash of its own. Each function that can start such code says so.

mod describe;
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
