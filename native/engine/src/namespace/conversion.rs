//! The rules by which the values of a job are converted: the form that the call wants, and the functions
//! of a program that convert objects of its classes and tuples of its tags.
//!
//! The functions are those of the namespace whose code has registered them, or else those of the pool,
//! which a preload has registered. Called on any thread that runs Python code, attached. The tables are
//! locked for one operation, and no object is dropped under the lock.

use py_codec::{Form, NoneAtom, Rules};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::Ordering;

use super::main_of_thread;
use crate::host::Host;
use crate::interpreter::{self, Converters};
use crate::lock::lock;
use crate::released;

/// The rules for the values of the job of a host.
pub struct Conversion<'a> {
    host: &'a dyn Host,
    form: Form,
}

impl<'a> Conversion<'a> {
    /// The rules for arguments, messages, and values that no call wants in a form of its own.
    pub fn new(host: &'a dyn Host) -> Self {
        Self::with_form(host, Form::default())
    }

    /// The rules for a value that its call wants in a form.
    pub fn with_form(host: &'a dyn Host, form: Form) -> Self {
        Self { host, form }
    }
}

impl Rules for Conversion<'_> {
    fn must_stop(&self) -> bool {
        self.host.must_stop()
    }

    fn form(&self) -> Form {
        let none = self.form.none.unwrap_or_else(default_none);
        Form {
            none: Some(none),
            ..self.form
        }
    }

    fn encoders<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        find(py, Kind::Encoder)
    }

    fn decoders<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        find(py, Kind::Decoder)
    }
}

/// The two tables of converters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// By class.
    Encoder,
    /// By the text of an atom.
    Decoder,
}

/// Sets the atom that `None` becomes where a call wants no other. Called at each start of the host, and by
/// a child process before its first job.
pub fn set_none(atom: NoneAtom) {
    if let Some(interpreter) = interpreter::get() {
        let converters = &interpreter.converters;
        converters.none.store(atom as u8, Ordering::Relaxed);
    }
}

fn default_none() -> NoneAtom {
    let none = interpreter::get().map(|found| found.converters.none.load(Ordering::Relaxed));
    match none {
        Some(1) => NoneAtom::Nil,
        Some(2) => NoneAtom::Undefined,
        _ => NoneAtom::None,
    }
}

/// Begins or ends a preload, whose converters are those of the pool. Called by the host while no other job
/// runs.
pub fn set_preload(is_preload: bool) {
    if let Some(interpreter) = interpreter::get() {
        let converters = &interpreter.converters;
        converters.is_preload.store(is_preload, Ordering::Relaxed);
    }
}

/// Adds a converter for `key` to the table of the calling thread's namespace, or of the pool; `None`
/// removes the one that is there.
pub(crate) fn register(
    kind: Kind,
    key: &Bound<'_, PyAny>,
    converter: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = key.py();
    let converters = &interpreter::find(py)?.converters;
    let is_preload = converters.is_preload.load(Ordering::Relaxed);
    let table = match main_of_thread(py)? {
        Some(main) if !is_preload => own_table(converters, kind, main.as_ptr().addr(), py)?,
        _ => converters.of_pool[kind as usize].bind(py).clone(),
    };
    if converter.is_none() {
        if table.contains(key)? {
            table.del_item(key)?;
        }
    } else {
        table.set_item(key, converter)?;
    }
    converters.is_used.store(true, Ordering::Relaxed);
    Ok(())
}

/// Returns the table of a namespace, which begins as that of the pool.
fn own_table<'py>(
    converters: &Converters,
    kind: Kind,
    owner: usize,
    py: Python<'py>,
) -> PyResult<Bound<'py, PyDict>> {
    let known = lock(&converters.by_namespace)
        .get(&owner)
        .map(|tables| tables[kind as usize].clone_ref(py));
    if let Some(table) = known {
        return Ok(table.into_bound(py));
    }
    // Made before the lock, since a collection may run.
    let copy = |kind: Kind| converters.of_pool[kind as usize].bind(py).copy();
    let tables = [copy(Kind::Encoder)?, copy(Kind::Decoder)?];
    let tables = tables.map(Bound::unbind);
    // Another thread of the lease may have been faster; the tables are dropped after the lock.
    let mut all = lock(&converters.by_namespace);
    let unused = match all.get(&owner) {
        Some(_) => Some(tables),
        None => all.insert(owner, tables),
    };
    let table = all
        .get(&owner)
        .map(|tables| tables[kind as usize].clone_ref(py));
    drop(all);
    drop(unused);
    let lost = || PyRuntimeError::new_err("the table of converters has gone");
    Ok(table.ok_or_else(lost)?.into_bound(py))
}

/// Returns the table of the calling thread's namespace, or of the pool; `None` if it is empty.
fn find(py: Python<'_>, kind: Kind) -> Option<Bound<'_, PyDict>> {
    let converters = &interpreter::get()?.converters;
    if !converters.is_used.load(Ordering::Relaxed) {
        return None;
    }
    let owner = main_of_thread(py).ok()?.map(|main| main.as_ptr().addr());
    let own = owner.and_then(|owner| {
        let tables = lock(&converters.by_namespace);
        tables
            .get(&owner)
            .map(|tables| tables[kind as usize].clone_ref(py))
    });
    let table = own.unwrap_or_else(|| converters.of_pool[kind as usize].clone_ref(py));
    let table = table.into_bound(py);
    (!table.is_empty()).then_some(table)
}

/// Whether the namespace with this `__main__` has converters of its own.
pub(super) fn has_own(owner: usize) -> bool {
    interpreter::get().is_some_and(|found| {
        let converters = &found.converters;
        converters.is_used.load(Ordering::Relaxed)
            && lock(&converters.by_namespace).contains_key(&owner)
    })
}

/// Drops the converters of a namespace that ends. Called by its worker, attached.
pub(super) fn forget(owner: usize) {
    if !has_own(owner) {
        return;
    }
    let tables =
        interpreter::get().and_then(|found| lock(&found.converters.by_namespace).remove(&owner));
    // The releaser drops the tables: their functions may have finalizers.
    tables
        .into_iter()
        .flatten()
        .for_each(|table| released::release(table.into_any()));
}
