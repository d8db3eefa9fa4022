//! Dicts, whose keys and values may be changed by code that runs in the middle. Called by the walk, attached.

use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

use super::known::step_of;
use super::{Keys, Walk, Writer, Written};
use crate::error::Stop;

impl<W: Writer> Walk<'_, '_, W> {
    /// Writes a dict. Keys and values are written at once while they are plain. The first other one, and
    /// all after it, are held before one of them is written: code that runs meanwhile may change the
    /// dict, of which an entry would be missed, or read twice.
    ///
    /// # Safety
    /// Attached, and a `dict` on the path.
    pub(super) unsafe fn dict(&mut self, dict: *mut ffi::PyObject) -> Written {
        let first = self.entries.len();
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        let (mut size, mut keys) = (0, Keys::Distinct);
        // The key of the first value that is held, if that key was written before.
        let mut first_key = None;
        // SAFETY: a dict on the path; no code that could change it runs between two steps.
        unsafe {
            let expected = ffi::PyDict_Size(dict).cast_unsigned();
            self.writer.begin_map(expected)?;
            while ffi::PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
                if ffi::PyUnicode_CheckExact(key) == 0 && ffi::PyLong_CheckExact(key) == 0 {
                    keys = Keys::Unknown;
                }
                self.put_or_hold(key, first)?;
                let is_written = self.entries.len() == first;
                let py = self.py;
                let at = |stop: Stop| stop.within(|| step_of(py, key));
                self.put_or_hold(value, first).map_err(at)?;
                if is_written && self.entries.len() > first {
                    first_key = Some(self.hold(key));
                }
                size += 1;
            }
        }
        let first_value = first + usize::from(first_key.is_none());
        for index in first..self.entries.len() {
            // SAFETY: held by `entries`; containers in the dict truncate it to this length at their end.
            let put = unsafe { self.put(self.entries[index].as_ptr()) };
            put.map_err(|stop| {
                if index < first_value || (index - first_value) % 2 == 1 {
                    return stop;
                }
                let key = if index == first {
                    first_key.as_ref()
                } else {
                    self.entries.get(index - 1)
                };
                // SAFETY: attached, and an object that is held.
                stop.within(|| unsafe {
                    step_of(self.py, key.map_or(ptr::null_mut(), Bound::as_ptr))
                })
            })?;
        }
        self.entries.truncate(first);
        self.writer.end_map(size, keys)
    }

    /// Writes a plain object, if no object of the same dict is held: `entries` from `first` on. Holds
    /// any other object.
    #[inline(always)]
    unsafe fn put_or_hold(&mut self, object: *mut ffi::PyObject, first: usize) -> Written {
        // SAFETY: attached, and a live object, by the contract of the caller.
        unsafe {
            if self.entries.len() == first
                && let Some(written) = self.put_plain(object)
            {
                return written;
            }
            self.entries.push(self.hold(object));
        }
        Ok(())
    }
}
