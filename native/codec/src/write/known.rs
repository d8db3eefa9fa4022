//! Objects of classes that are known by their names: those of the standard library and of numpy, of which
//! no module is imported here. Called by the walk, attached, with an object that is held. Methods of the
//! object run, and so may code of a program.

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::{Walk, Writer, Written};
use crate::error::Step;

/// Most characters of a key in the path of an error.
const MAX_KEY: usize = 80;

/// The form of the objects of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// `isoformat`: dates and times.
    IsoText,
    /// `str`.
    Text,
    /// The value of a member of an enumeration.
    Member,
    /// A map of the fields of a dataclass.
    Fields,
    /// A scalar of numpy, as `item`.
    Scalar,
    /// An array of numpy.
    Array,
}

/// The classes, by module and name. A class counts as one of them if it, or a class that it inherits
/// from, has the names.
const CLASSES: [(&str, &str, Known); 10] = [
    ("datetime", "datetime", Known::IsoText),
    ("datetime", "date", Known::IsoText),
    ("datetime", "time", Known::IsoText),
    ("decimal", "Decimal", Known::Text),
    ("uuid", "UUID", Known::Text),
    ("pathlib", "PurePath", Known::Text),
    ("pathlib._local", "PurePath", Known::Text),
    ("enum", "Enum", Known::Member),
    ("numpy", "generic", Known::Scalar),
    ("numpy", "ndarray", Known::Array),
];

impl<'py, W: Writer> Walk<'_, 'py, W> {
    /// Writes an object of a class that the walk itself does not convert: in the form of its class, or as
    /// a handle.
    pub(super) fn known(&mut self, object: &Bound<'py, PyAny>) -> Written {
        let py = object.py();
        let class = object.get_type();
        let known = match &self.known {
            Some((last, known)) if last.is(&class) => *known,
            _ => {
                let known = find(&class)?;
                self.known = Some((class, known));
                known
            }
        };
        match known {
            None => self.writer.object(object),
            Some(Known::IsoText) => {
                let text = object.call_method0(intern!(py, "isoformat"))?;
                self.made_within(object, &text)
            }
            Some(Known::Text) => self.made(object.str()?.as_any()),
            Some(Known::Member) => {
                let value = object.getattr(intern!(py, "value"))?;
                self.made_within(object, &value)
            }
            Some(Known::Fields) => self.made_within(object, fields(object)?.as_any()),
            Some(Known::Scalar) => self.scalar(object),
            Some(Known::Array) => self.array(object),
        }
    }

    /// Writes an object that was made of the current one.
    pub(super) fn made(&mut self, object: &Bound<'py, PyAny>) -> Written {
        // SAFETY: attached, and an object that the caller holds.
        unsafe { self.put(object.as_ptr()) }
    }

    /// Writes an object that was made of `source`, which counts as a container: a value that leads back
    /// to it is a cycle.
    pub(super) fn made_within(
        &mut self,
        source: &Bound<'py, PyAny>,
        object: &Bound<'py, PyAny>,
    ) -> Written {
        // SAFETY: attached, and objects that the caller holds.
        unsafe { self.within(source.as_ptr(), |walk| walk.made(object)) }
    }

    /// Writes a scalar of numpy as the number, text or date that `item` returns.
    fn scalar(&mut self, scalar: &Bound<'py, PyAny>) -> Written {
        let py = scalar.py();
        let item = scalar.call_method0(intern!(py, "item"))?;
        if !item.get_type().is(scalar.get_type()) {
            return self.made_within(scalar, &item);
        }
        // A `longdouble` is its own item.
        match scalar.call_method0(intern!(py, "__float__")) {
            Ok(float) => self.made_within(scalar, &float),
            Err(_) => self.writer.object(scalar),
        }
    }
}

/// Returns the form of the objects of a class; `None` if they become handles, as those of a class do that
/// hides what it is. Fails if the code has to stop meanwhile.
fn find(class: &Bound<'_, PyType>) -> PyResult<Option<Known>> {
    match look(class) {
        Err(error) if error.is_instance_of::<PyException>(class.py()) => Ok(None),
        found => found,
    }
}

fn look(class: &Bound<'_, PyType>) -> PyResult<Option<Known>> {
    let py = class.py();
    let mro = class.getattr(intern!(py, "__mro__"))?;
    let text = |base: &Bound<'_, PyAny>, name| {
        let text = base.getattr(name).ok()?.cast_into::<PyString>().ok()?;
        Some(text.to_string_lossy().into_owned())
    };
    for base in mro.cast::<PyTuple>()?.iter() {
        let name = text(&base, intern!(py, "__name__"));
        let module = text(&base, intern!(py, "__module__"));
        let is_base = |known: &&(&str, &str, Known)| {
            name.as_deref() == Some(known.1) && module.as_deref() == Some(known.0)
        };
        if let Some((.., known)) = CLASSES.iter().find(is_base) {
            return Ok(Some(*known));
        }
    }
    let fields = class.getattr_opt(intern!(py, "__dataclass_fields__"))?;
    let is_dataclass = fields.is_some_and(|fields| fields.is_instance_of::<PyDict>());
    Ok(is_dataclass.then_some(Known::Fields))
}

/// Returns a dict of the fields that an instance of a dataclass has.
fn fields<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = object.py();
    let dict = PyDict::new(py);
    let dataclasses = py.import(intern!(py, "dataclasses"))?;
    for field in dataclasses
        .call_method1(intern!(py, "fields"), (object,))?
        .try_iter()?
    {
        let name = field?.getattr(intern!(py, "name"))?;
        // A field without a value is left out.
        if let Some(value) = object.getattr_opt(name.cast::<PyString>()?)? {
            dict.set_item(&name, value)?;
        }
    }
    Ok(dict)
}

/// Returns the step to the value of a key. Runs no code of a program.
///
/// # Safety
/// Attached, and a live object or null.
pub(super) unsafe fn step_of(py: Python<'_>, key: *mut ffi::PyObject) -> Step {
    // SAFETY: as the caller says; the object is only looked at.
    let Some(key) = (unsafe { Bound::from_borrowed_ptr_or_opt(py, key) }) else {
        return Step::Key(String::new());
    };
    if let Ok(text) = key.cast::<PyString>() {
        return Step::Key(text.to_string_lossy().chars().take(MAX_KEY).collect());
    }
    // SAFETY: attached, and a live object; `overflow` can be written.
    let number = unsafe {
        let mut overflow = 0;
        let is_integer = ffi::PyLong_CheckExact(key.as_ptr()) != 0;
        let number =
            is_integer.then(|| ffi::PyLong_AsLongLongAndOverflow(key.as_ptr(), &mut overflow));
        number.filter(|_| overflow == 0)
    };
    number.map_or_else(
        || Step::Key(crate::python_ffi::type_name(&key)),
        Step::Number,
    )
}
