//! Arguments, keyword arguments and names of a call. Called attached, by the functions of
//! [`read`](crate::read()).

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{Fallible, Kind, Read, Reader};
use crate::error::Why;

impl<'py, R: Reader> Read<'_, 'py, R> {
    pub(super) fn arguments(&mut self) -> Fallible<Vec<Bound<'py, PyAny>>> {
        let mark = self.reader.mark();
        if !matches!(self.reader.kind()?, Kind::List) {
            return Err(self.unconvertible(Why::ImproperList, mark));
        }
        let mut items = self.reader.open_list()?;
        let Some(length) = self.reader.length(&items) else {
            return Err(self.unconvertible(Why::ImproperList, mark));
        };
        let mut arguments = Vec::with_capacity(length);
        while self.reader.next_item(&mut items) {
            self.check(arguments.len())?;
            arguments.push(self.value()?);
        }
        if !self.reader.close_list(items)? {
            return Err(self.unconvertible(Why::ImproperList, mark));
        }
        Ok(arguments)
    }

    pub(super) fn kwargs(&mut self) -> Fallible<Bound<'py, PyDict>> {
        let mark = self.reader.mark();
        let mut entries = self.reader.open_map()?;
        let dict = PyDict::new(self.py);
        let mut count = 0;
        while self.reader.next_key(&mut entries) {
            let name = self.name()?;
            self.reader.next_entry_value(&mut entries);
            dict.set_item(name, self.value()?)?;
            count += 1;
        }
        self.check_collision(&dict, count, mark)?;
        Ok(dict)
    }

    pub(super) fn name(&mut self) -> Fallible<Bound<'py, PyString>> {
        let (py, mark) = (self.py, self.reader.mark());
        match self.reader.kind()? {
            Kind::Atom => return self.reader.atom(py),
            Kind::Bits => {
                let bytes = self.reader.binary()?;
                if let Some(Ok(text)) = bytes.map(std::str::from_utf8) {
                    return Ok(PyString::new(py, text));
                }
            }
            _ => {}
        }
        Err(self.unconvertible(Why::NotUnicode, mark))
    }
}
