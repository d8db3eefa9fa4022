//! Terms of the BEAM: the reader and writer that the codec walks them with, handles of Erlang on
//! Python objects, and terms that Python holds. Used by `convert` on workers and guests, attached;
//! handles are dropped on any thread. Nothing here blocks.

mod atom_cache;
mod choose_encoding;
mod handles;
mod held_binary;
mod make;
mod opaque;
mod reader;
mod writer;

pub(crate) use choose_encoding::prefers_external;
pub(crate) use handles::{Object, ObjectOwner, ProcessObject};
pub(crate) use make::small_map;
pub(crate) use opaque::{ErlangTerm, OfBeam};
pub(crate) use reader::TermReader;
pub(crate) use writer::{MIN_SHARED, TermWriter};
