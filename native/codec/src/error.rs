//! The errors of a conversion. Made and read on the thread that converts, attached.

use pyo3::PyErr;
use std::fmt;

/// The cause for which a value was not converted.
#[derive(Debug)]
pub enum Error {
    /// The value has no form on the other side.
    Unconvertible(Unconvertible),
    /// `must_stop` has returned `true`.
    Interrupted,
    /// An exception, which code of a program has raised in the middle, or which says that there is no
    /// memory.
    Python(PyErr),
    /// Bytes that are no term in the external term format.
    Malformed {
        /// The index in the input.
        at: usize,
        what: &'static str,
    },
}

/// A value without a form on the other side.
#[derive(Debug)]
pub struct Unconvertible {
    pub why: Why,
    /// The beginning of the value, or its type, as text for an error message.
    pub value: String,
    /// Where the value stands in the whole result, innermost step first.
    pub path: Vec<Step>,
}

/// One step of a path into a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The index of an item, or an integer that is a key.
    Number(i64),
    /// The beginning of a key that is text, or the type of another one.
    Key(String),
}

/// The reason for which a value has no form on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    ImproperList,
    TooDeep,
    Cycle,
    KeyCollision,
    UnhashableKey,
    /// A `str` with lone surrogates.
    NotUnicode,
    /// The value is larger than the BEAM, or one message, can carry.
    TooLarge,
    /// A handle of an object that lives in another worker.
    ForeignObject,
}

impl Error {
    /// Makes an [`Error::Unconvertible`].
    pub fn unconvertible(why: Why, value: impl Into<String>) -> Self {
        let value = value.into();
        Self::Unconvertible(Unconvertible {
            why,
            value,
            path: Vec::new(),
        })
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

/// Boxed in the functions that run for every element, whose result is returned in registers then.
impl From<PyErr> for Box<Error> {
    fn from(error: PyErr) -> Self {
        Self::new(Error::Python(error))
    }
}

/// The reason for which a walk has ended before the end of its object.
#[derive(Debug)]
pub enum Stop {
    /// The writer cannot take a part of the object; another writer may.
    Refused,
    Failed(Box<Error>),
}

impl Stop {
    /// Adds a step to the path of a value without a form. Called for each container around the value, the
    /// innermost first.
    #[cold]
    pub(crate) fn within(mut self, step: impl FnOnce() -> Step) -> Self {
        if let Self::Failed(error) = &mut self
            && let Error::Unconvertible(unconvertible) = &mut **error
        {
            unconvertible.path.push(step());
        }
        self
    }
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
