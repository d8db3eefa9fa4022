//! The payload of a frame of the VM, as long as the child needs it. Any thread may hold one.

use py_codec::frame::Payload as Come;
use py_codec::memory::Memory;
use pyo3::PyErr;
use pyo3::exceptions::PyOSError;
use std::ops::Deref;

pub(crate) enum Payload {
    Bytes(Vec<u8>),
    Memory(Memory),
    /// The first bytes of a payload whose memory was lost, since the process has no room for it or may open no
    /// more files.
    Lost(Vec<u8>),
}

impl Payload {
    /// Keeps what an inbox has.
    pub(crate) fn keep(come: Come<'_>) -> Self {
        match come {
            Come::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Come::Memory(memory) => Self::Memory(memory),
            Come::Lost(begin) => Self::Lost(begin.to_vec()),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) | Self::Lost(bytes) => bytes,
            Self::Memory(memory) => memory,
        }
    }
}

/// Returns the exception for a value whose memory was lost.
pub(crate) fn no_descriptor() -> PyErr {
    let text = "a big value of Erlang needs a file, or memory, that this process may not have";
    PyOSError::new_err((libc::EMFILE, text))
}
