//! The external term format (<https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>): an
//! [`Encoder`], which is a [`Writer`](crate::Writer), and a [`Decoder`], which is a
//! [`Reader`](crate::Reader). Called attached; nothing here runs code of a program.
//!
//! The input may come from any node: a decoder allocates no more than a small multiple of the input,
//! makes no atoms, and recurses no deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).

mod decode;
mod encode;
mod opaque;
mod scan;
mod tags;

pub use decode::{Decoder, decode};
pub use encode::Encoder;
