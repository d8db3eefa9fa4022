//! Terms to Python objects: reads the term of a [`Reader`] once. Called by the host, attached; blocks
//! on nothing. The keys of a map are hashed and compared, which may run code of a program.

mod arguments;
mod describe;
mod reader;
mod tagged;

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyNone, PyString, PyTuple};

use crate::error::{Error, Why};
use crate::limits::{CHECK_INTERVAL, MAX_DEPTH};
use crate::python_ffi::{new_dict, set_list_item};
use crate::rules::Rules;
use crate::{text, view};

use describe::describe;
pub use reader::{Constant, Fallible, Kind, Reader, Tag, integer};

/// Returns the object that the next term of `reader` becomes. Calls `must_stop` of `rules` before each list
/// and map, and every [`CHECK_INTERVAL`] items, and fails with `Interrupted` if that returns `true`.
pub fn read<'py, R: Reader>(
    py: Python<'py>,
    reader: &mut R,
    rules: &dyn Rules,
) -> Result<Bound<'py, PyAny>, Error> {
    Read::new(py, reader, rules).value().map_err(|error| *error)
}

/// Returns the objects that the items of a list become, as positional arguments.
pub fn read_arguments<'py, R: Reader>(
    py: Python<'py>,
    reader: &mut R,
    rules: &dyn Rules,
) -> Result<Vec<Bound<'py, PyAny>>, Error> {
    Read::new(py, reader, rules)
        .arguments()
        .map_err(|error| *error)
}

/// Returns the dict of a map with names as keys, as keyword arguments or locals.
pub fn read_kwargs<'py, R: Reader>(
    py: Python<'py>,
    reader: &mut R,
    rules: &dyn Rules,
) -> Result<Bound<'py, PyDict>, Error> {
    Read::new(py, reader, rules)
        .kwargs()
        .map_err(|error| *error)
}

/// Returns a name: the text of an atom or of a binary.
pub fn read_name<'py, R: Reader>(
    py: Python<'py>,
    reader: &mut R,
) -> Result<Bound<'py, PyString>, Error> {
    Read::new(py, reader, &|| false)
        .name()
        .map_err(|error| *error)
}

struct Read<'r, 'py, R> {
    py: Python<'py>,
    reader: &'r mut R,
    rules: &'r dyn Rules,
    /// The decoders of the rules, once they were asked.
    decoders: Option<Option<Bound<'py, PyDict>>>,
    /// How many containers are around the next term.
    depth: usize,
}

impl<'r, 'py, R: Reader> Read<'r, 'py, R> {
    fn new(py: Python<'py>, reader: &'r mut R, rules: &'r dyn Rules) -> Self {
        Self {
            py,
            reader,
            rules,
            decoders: None,
            depth: 0,
        }
    }

    /// Calls `must_stop` before some items or entries: the next one has the number `index`.
    #[inline(always)]
    fn check(&self, index: usize) -> Fallible<()> {
        if index.is_multiple_of(CHECK_INTERVAL) && self.rules.must_stop() {
            return Err(Error::Interrupted.into());
        }
        Ok(())
    }

    /// Makes the error of the term at `mark`, with the beginning of its text.
    #[cold]
    fn unconvertible(&mut self, why: Why, mark: R::Mark) -> Box<Error> {
        self.reader.rewind(mark);
        Error::unconvertible(why, describe(self.reader)).into()
    }

    fn value(&mut self) -> Fallible<Bound<'py, PyAny>> {
        let kind = self.reader.kind()?;
        self.value_of(kind)
    }

    /// Reads an item like `value`, but tries a number first if `last`, the kind of the item before,
    /// is one: that costs as much as `kind` does.
    #[inline(always)]
    fn next_value(&mut self, last: &mut Kind) -> Fallible<Bound<'py, PyAny>> {
        if matches!(*last, Kind::Integer)
            && let Some(small) = self.reader.small_integer()
        {
            return Ok(PyInt::new(self.py, small).into_any());
        }
        if matches!(*last, Kind::Float)
            && let Some(value) = self.reader.float()
        {
            return Ok(PyFloat::new(self.py, value).into_any());
        }
        *last = self.reader.kind()?;
        self.value_of(*last)
    }

    fn value_of(&mut self, kind: Kind) -> Fallible<Bound<'py, PyAny>> {
        let py = self.py;
        match kind {
            Kind::Integer => match self.reader.small_integer() {
                Some(small) => Ok(PyInt::new(py, small).into_any()),
                None => self.reader.big_integer(py),
            },
            Kind::Float => match self.reader.float() {
                Some(value) => Ok(PyFloat::new(py, value).into_any()),
                None => Err(Error::unconvertible(Why::TooLarge, "float").into()),
            },
            Kind::Atom => self.atom(),
            Kind::Bits => match self.reader.binary()? {
                Some(bytes) => Ok(text::of_binary(py, bytes)?),
                None => self.reader.other(py),
            },
            Kind::List => self.within(Self::list),
            Kind::Tuple => self.tuple(),
            Kind::Map => self.within(Self::map),
            Kind::Other => self.reader.other(py),
        }
    }

    /// Reads the inside of a container, at most `MAX_DEPTH` deep.
    fn within<T>(&mut self, inside: impl FnOnce(&mut Self) -> Fallible<T>) -> Fallible<T> {
        if self.depth == MAX_DEPTH {
            return Err(Error::unconvertible(Why::TooDeep, "term").into());
        }
        self.depth += 1;
        let read = inside(self);
        self.depth -= 1;
        read
    }

    fn atom(&mut self) -> Fallible<Bound<'py, PyAny>> {
        let py = self.py;
        match self.reader.constant() {
            Some(Constant::True) => Ok(PyBool::new(py, true).to_owned().into_any()),
            Some(Constant::False) => Ok(PyBool::new(py, false).to_owned().into_any()),
            Some(Constant::None) => Ok(PyNone::get(py).to_owned().into_any()),
            None => Ok(self.reader.atom(py)?.into_any()),
        }
    }

    /// Reads a list into a Python list of its length, without a second list of the items. The garbage
    /// collector does not track the list until it is full, so no finalizer finds it with null items.
    fn list(&mut self) -> Fallible<Bound<'py, PyAny>> {
        let mark = self.reader.mark();
        let mut items = self.reader.open_list()?;
        let Some(length) = self.reader.length(&items) else {
            return Err(self.unconvertible(Why::ImproperList, mark));
        };
        // SAFETY: attached; a new list, or null with an exception set.
        let list = unsafe {
            let list = ffi::PyList_New(length.cast_signed());
            Bound::from_owned_ptr_or_err(self.py, list)?
        };
        // SAFETY: a new list, which the collector tracks.
        unsafe { ffi::PyObject_GC_UnTrack(list.as_ptr().cast()) };
        let (mut index, mut kind) = (0, Kind::List);
        while index < length && self.reader.next_item(&mut items) {
            self.check(index)?;
            let item = self.next_value(&mut kind)?.into_ptr();
            // SAFETY: a list that no other code has seen, and an index that is set once.
            unsafe { set_list_item(list.as_ptr(), index.cast_signed(), item) };
            index += 1;
        }
        if !self.reader.close_list(items)? {
            return Err(self.unconvertible(Why::ImproperList, mark));
        }
        // SAFETY: a list without null items, which the collector does not track.
        unsafe { ffi::PyObject_GC_Track(list.as_ptr().cast()) };
        Ok(list)
    }

    fn tuple(&mut self) -> Fallible<Bound<'py, PyAny>> {
        let mut elements = self.reader.open_tuple()?;
        match self.reader.tag(&mut elements) {
            Some(Tag::Bytes) => {
                let bytes = self.reader.binary()?.unwrap_or_default();
                return Ok(text::new_bytes(self.py, bytes)?);
            }
            Some(Tag::View) => return Ok(view::over(self.py, self.reader.held_binary()?)?),
            Some(Tag::Array) => return self.within(Self::array),
            None => {}
        }
        self.within(|read| {
            let arity = read.reader.arity(&elements);
            let mut items = Vec::with_capacity(arity);
            let mut decoder = None;
            for index in 0..arity {
                read.reader.next_element(&mut elements);
                let is_tag = index == 0 && matches!(read.reader.kind()?, Kind::Atom);
                items.push(read.value()?);
                if is_tag {
                    decoder = read.decoder(&items[0])?;
                }
            }
            match decoder {
                Some(decoder) => read.decoded(&decoder, items.split_off(1)),
                None => Ok(PyTuple::new(read.py, items)?.into_any()),
            }
        })
    }

    fn map(&mut self) -> Fallible<Bound<'py, PyAny>> {
        let mark = self.reader.mark();
        let mut entries = self.reader.open_map()?;
        let dict = new_dict(self.py, self.reader.size(&entries))?;
        let mut count = 0;
        while self.reader.next_key(&mut entries) {
            self.check(count)?;
            let at_key = self.reader.mark();
            let key = self.value()?;
            let is_plain = key.is_exact_instance_of::<PyString>();
            if !is_plain && let Err(error) = key.hash() {
                // An interrupt is no property of the key.
                let is_exception = error.is_instance_of::<PyException>(self.py);
                let unhashable = self.unconvertible(Why::UnhashableKey, at_key);
                return Err(if is_exception {
                    unhashable
                } else {
                    error.into()
                });
            }
            self.reader.next_entry_value(&mut entries);
            dict.set_item(key, self.value()?)?;
            count += 1;
        }
        self.check_collision(&dict, count, mark)?;
        Ok(dict.into_any())
    }

    /// Fails if two keys are equal in Python, as `1` and `true` are: the map has more entries then.
    fn check_collision(
        &mut self,
        dict: &Bound<'_, PyDict>,
        entries: usize,
        map: R::Mark,
    ) -> Fallible<()> {
        if dict.len() == entries {
            return Ok(());
        }
        Err(self.unconvertible(Why::KeyCollision, map))
    }
}
