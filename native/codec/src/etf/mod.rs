//! The external term format (<https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>): an
//! [`Encoder`], which is a [`Writer`](crate::Writer), and a [`Decoder`], which is a
//! [`Reader`](crate::Reader). Called attached; nothing here runs code of a program.
//!
//! The input may come from any node: a decoder allocates no more than a small multiple of the input,
//! makes no atoms, and recurses no deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).

mod decode;
mod encode;
mod opaque;
mod owned_bytes;
mod parts;
mod scan;
mod tags;

use pyo3::prelude::*;

pub use decode::{Decoder, decode};
pub use encode::Encoder;
pub use opaque::opaque_term;
pub use parts::{Part, Parts, is_whole};
pub use tags::VERSION;

/// Python objects without a form in Erlang, as a child process knows them: by numbers. No method runs
/// Python code.
pub trait Objects {
    /// Keeps an object, and returns its number.
    fn keep(&self, object: &Bound<'_, PyAny>) -> u64;
    /// Returns the object with this number.
    fn find<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>>;
}
