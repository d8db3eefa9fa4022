//! What Erlang holds of a lease.

use rustler::Resource;
use std::sync::Arc;

use super::Lease;

/// What `py_pool` and the table of bindings hold: it does not keep the lease from ending.
pub(crate) struct LeaseHandle(pub(crate) Arc<Lease>);

#[rustler::resource_impl]
impl Resource for LeaseHandle {}

/// What `py:bind(new)` returns: the lease ends with the last copy of it.
pub(crate) struct Context(pub(crate) Arc<Lease>);

#[rustler::resource_impl]
impl Resource for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        self.0.end();
    }
}
