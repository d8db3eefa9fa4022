//! Python objects that Erlang holds: by a handle, or as the bytes of a binary.
//!
//! Made on workers, attached, and dropped on any thread, mostly on schedulers: a drop leaves the
//! reference to [`release`], and the releaser runs the finalizer. Nothing here blocks.

use pyo3::prelude::*;
use rustler::{Env, Resource, ResourceArc, Term};
use std::sync::Arc;

use py_engine::released::release;

use crate::live_counts::CountGuard;
use crate::vm::VM;

/// A handle on an object without a form in Erlang. As an argument it becomes that object again.
pub(crate) struct Object {
    /// The object; `None` only within the drop.
    object: Option<Py<PyAny>>,
    _counted: CountGuard,
}

#[rustler::resource_impl]
impl Resource for Object {}

impl Object {
    pub(crate) fn hold(object: &Bound<'_, PyAny>) -> ResourceArc<Self> {
        let object = Some(object.clone().unbind());
        ResourceArc::new(Self {
            object,
            _counted: VM.counts.objects.enter(),
        })
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match &self.object {
            Some(object) => object.bind(py).clone(),
            None => py.None().into_bound(py),
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            release(object);
        }
    }
}

/// The child process that has an object.
pub(crate) trait ObjectOwner: Send + Sync {
    /// The id of the worker.
    fn id(&self) -> u64;
    /// Has the process drop an object. Called by a destructor: never blocks.
    fn release(&self, number: u64);
}

/// A handle on an object of a child process, which knows it by a number.
pub(crate) struct ProcessObject {
    pub(crate) owner: Arc<dyn ObjectOwner>,
    pub(crate) number: u64,
    _counted: CountGuard,
}

#[rustler::resource_impl]
impl Resource for ProcessObject {}

impl ProcessObject {
    pub(crate) fn hold(owner: Arc<dyn ObjectOwner>, number: u64) -> ResourceArc<Self> {
        ResourceArc::new(Self {
            owner,
            number,
            _counted: VM.counts.objects.enter(),
        })
    }
}

impl Drop for ProcessObject {
    fn drop(&mut self) {
        self.owner.release(self.number);
    }
}

/// An immutable object whose bytes are those of a binary of the BEAM.
pub(crate) struct SharedBytes {
    /// The object; `None` only within the drop.
    owner: Option<Py<PyAny>>,
    data: *const u8,
    size: usize,
    _counted: CountGuard,
}

// SAFETY: the bytes do not change, and the owner is used by the drop only, which leaves it to the
// releaser.
unsafe impl Send for SharedBytes {}
// SAFETY: only reads of bytes that do not change are shared.
unsafe impl Sync for SharedBytes {}

#[rustler::resource_impl]
impl Resource for SharedBytes {}

impl SharedBytes {
    /// Returns a binary over `bytes`, which lie in `owner`; the binary keeps the owner alive.
    pub(crate) fn share<'a>(env: Env<'a>, owner: &Bound<'_, PyAny>, bytes: &[u8]) -> Term<'a> {
        let shared = ResourceArc::new(Self {
            owner: Some(owner.clone().unbind()),
            data: bytes.as_ptr(),
            size: bytes.len(),
            _counted: VM.counts.objects.enter(),
        });
        // SAFETY: the owner, which is dropped with `shared`, keeps the bytes alive and unchanged.
        let slice = |shared: &Self| unsafe { std::slice::from_raw_parts(shared.data, shared.size) };
        // SAFETY: the slice lives as long as the resource, which the binary keeps alive.
        let binary = unsafe { shared.make_binary_unsafe(env, slice) };
        binary.to_term(env)
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            release(owner);
        }
    }
}
