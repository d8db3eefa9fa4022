//! The rules of a conversion: what its host decides. The codec asks them on the thread that converts,
//! attached.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The form that a call wants for its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form {
    /// The value stays in Python, and Erlang gets a handle.
    pub is_object: bool,
    /// An array of numpy becomes `{ndarray, Map}` with its bytes, instead of nested lists.
    pub binary_arrays: bool,
    /// The form of `None`, if the call wants another one than the rest.
    pub none: Option<NoneAtom>,
}

/// The atom that `None` becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NoneAtom {
    #[default]
    None,
    Nil,
    Undefined,
}

impl NoneAtom {
    /// Returns the text of the atom.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nil => "nil",
            Self::Undefined => "undefined",
        }
    }

    /// Returns the atom of a text, if it is one of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Nil, Self::Undefined];
        all.into_iter().find(|atom| atom.name() == name)
    }
}

impl Form {
    /// Returns the form as bits: how it travels to a child process.
    #[must_use]
    pub fn bits(self) -> u8 {
        let none = self.none.map_or(0, |none| none as u8 + 1);
        u8::from(self.is_object) | u8::from(self.binary_arrays) << 1 | none << 2
    }

    /// Returns the form of bits. Unknown bits mean nothing.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self {
            is_object: bits & 1 != 0,
            binary_arrays: bits & 2 != 0,
            none: match bits >> 2 {
                1 => Some(NoneAtom::None),
                2 => Some(NoneAtom::Nil),
                3 => Some(NoneAtom::Undefined),
                _ => None,
            },
        }
    }
}

/// Decisions of the host of a conversion. A function that returns whether the conversion must stop is
/// the rules of a conversion without any others.
pub trait Rules {
    /// Whether the conversion must stop. Called now and then; runs no code of a program.
    fn must_stop(&self) -> bool;

    /// Returns the form of the value.
    fn form(&self) -> Form {
        Form::default()
    }

    /// Returns the functions that convert objects of a class, by class; `None` if there are none.
    fn encoders<'py>(&self, _py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        None
    }

    /// Returns the functions that convert tuples whose first element is an atom, by its text; `None` if
    /// there are none.
    fn decoders<'py>(&self, _py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        None
    }
}

impl<F: Fn() -> bool> Rules for F {
    fn must_stop(&self) -> bool {
        self()
    }
}
