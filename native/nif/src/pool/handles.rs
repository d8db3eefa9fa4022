//! The handles that Erlang holds on a pool and on a lease, and how these end from there. Called on
//! scheduler threads and by destructors: nothing blocks, attaches or sends.

use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};
use std::sync::Arc;

use super::{End, Lease, Pool};

/// What `py_pool` and the table of bindings hold: it does not keep the lease from ending.
pub(crate) struct LeaseHandle(pub(crate) Arc<Lease>);

#[rustler::resource_impl]
impl Resource for LeaseHandle {}

/// What `py:bind(new)` returns: the lease ends with the last copy of it.
pub(crate) struct Context(pub(crate) Arc<Lease>);

#[rustler::resource_impl]
impl Resource for Context {}

impl Drop for Context {
    /// A lease that no worker has come to leaves the pool's queue now, and the watchdog tells
    /// `py_pool`, since a destructor cannot send.
    fn drop(&mut self) {
        if self.0.end_and_withdraw() {
            self.0.pool().tell_ended(&self.0);
        }
    }
}

impl Lease {
    /// As `end`, for `py_pool`, which needs no message of the end: a lease that no worker has come
    /// to, and that has no job, leaves nothing behind.
    pub(crate) fn end_by_pool(&self) -> End {
        let end = self.end();
        self.leave_queue();
        end
    }

    /// Ends the lease; `true` if that was its end and no worker will tell `py_pool`, because none
    /// has come to it and none will.
    pub(crate) fn end_and_withdraw(&self) -> bool {
        self.end() != End::Already && self.leave_queue()
    }

    /// Takes the lease out of the pool's queue, if no worker has come to it and it has no job.
    fn leave_queue(&self) -> bool {
        let left = self.is_idle()
            && self
                .key
                .get()
                .is_some_and(|key| self.pool.withdraw_lease(*key));
        if left {
            self.free();
        }
        left
    }
}

/// What `py_pool` holds.
pub(crate) struct PoolHandle(pub(crate) Arc<Pool>);

#[rustler::resource_impl]
impl Resource for PoolHandle {
    /// `py_pool` died: runs on a scheduler thread, posts notes only.
    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.0.close();
    }
}

impl PoolHandle {
    /// `None` when the calling process is dying.
    pub(crate) fn open(env: Env<'_>, pool: Arc<Pool>) -> Option<ResourceArc<Self>> {
        let manager = pool.manager;
        let handle = ResourceArc::new(Self(pool));
        env.monitor(&handle, &manager)?;
        Some(handle)
    }
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}
