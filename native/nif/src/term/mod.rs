//! Terms of the BEAM, for the codec: their reader and writer, and the handles that one side holds
//! on things of the other. Used on workers, attached, by `convert`.

mod atom_cache;
mod choose_encoding;
mod handles;
mod held_binary;
mod make;
mod opaque;
mod reader;
mod writer;

pub(crate) use choose_encoding::is_worthwhile;
pub(crate) use make::small_map;
pub(crate) use opaque::{ErlangTerm, OfBeam};
pub(crate) use reader::TermReader;
pub(crate) use writer::TermWriter;
