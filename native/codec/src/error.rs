//! Errors of a conversion. Made on the thread that converts.

use pyo3::PyErr;
use std::fmt;

/// Why a value was not converted.
#[derive(Debug)]
pub enum Error {
    /// The value has no form on the other side.
    Unconvertible(Unconvertible),
    /// `must_stop` has returned `true`.
    Interrupted,
    /// Raised by Python: by code of a program that ran in the middle, or for want of memory.
    Python(PyErr),
    /// Bytes that are no term in the external term format.
    Malformed {
        /// Place in the input.
        at: usize,
        what: &'static str,
    },
}

#[derive(Debug)]
pub struct Unconvertible {
    pub why: Why,
    /// The beginning of the value, or its type, for a person to read.
    pub value: String,
}

/// Why a value has no form on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    ImproperList,
    TooDeep,
    Cycle,
    KeyCollision,
    UnhashableKey,
    /// A `str` with lone surrogates.
    NotUnicode,
    /// More than the BEAM, or one message, can carry.
    TooLarge,
}

impl Error {
    pub fn unconvertible(why: Why, value: impl Into<String>) -> Self {
        let value = value.into();
        Self::Unconvertible(Unconvertible { why, value })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconvertible(u) => write!(f, "cannot convert ({:?}): {}", u.why, u.value),
            Self::Interrupted => f.write_str("the conversion was interrupted"),
            Self::Python(error) => error.fmt(f),
            Self::Malformed { at, what } => {
                write!(f, "malformed external term at byte {at}: {what}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// Boxed where it is on the way of every element: such a result is returned in registers.
impl From<PyErr> for Box<Error> {
    fn from(error: PyErr) -> Self {
        Self::new(Error::Python(error))
    }
}

/// Why a writer has not got the whole of an object.
#[derive(Debug)]
pub enum Stop {
    /// The writer cannot carry a part of it; another one may.
    Refused,
    Failed(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl From<Box<Error>> for Stop {
    fn from(error: Box<Error>) -> Self {
        Self::Failed(error)
    }
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Failed(error.into())
    }
}
