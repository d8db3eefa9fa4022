//! The handles that Erlang holds on a pool and on a lease, and the ends that come from them. Called
//! on scheduler threads and by destructors: nothing blocks, attaches or sends.

use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};
use std::sync::Arc;

use super::{End, Lease, Pool};

/// The handle on a lease that `py_pool` and the table of bindings hold. Its drop does not end the
/// lease.
pub(crate) struct LeaseHandle(pub(crate) Arc<Lease>);

#[rustler::resource_impl]
impl Resource for LeaseHandle {}

/// The handle on a lease that `py:bind(new)` returns. The drop of its last copy ends the lease.
pub(crate) struct Context(pub(crate) Arc<Lease>);

#[rustler::resource_impl]
impl Resource for Context {}

impl Drop for Context {
    /// Ends the lease. One that no worker has taken leaves the pool's queue at once; the watchdog
    /// notifies `py_pool` of it, since a destructor cannot send.
    fn drop(&mut self) {
        if self.0.end_and_withdraw() {
            self.0.pool().report_end(&self.0);
        }
    }
}

impl Lease {
    /// Ends the lease for `py_pool`. An idle lease that no worker has taken leaves the pool's queue
    /// at once, without a message.
    pub(crate) fn end_by_pool(&self) -> End {
        let end = self.end();
        self.leave_queue();
        end
    }

    /// Ends the lease; `true` if this call has ended it and no worker will notify `py_pool`,
    /// because none has taken it and none will.
    pub(crate) fn end_and_withdraw(&self) -> bool {
        self.end() != End::Already && self.leave_queue()
    }

    /// Takes the lease out of the pool's queue; `false` if a worker has taken it, or it has a job.
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

/// The handle on a pool that `py_pool` holds. Its drop closes the pool.
pub(crate) struct PoolHandle(pub(crate) Arc<Pool>);

#[rustler::resource_impl]
impl Resource for PoolHandle {
    /// Closes the pool when `py_pool` has died. Runs on a scheduler thread.
    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.0.close();
    }
}

impl PoolHandle {
    /// Makes the handle, and monitors the calling process; `None` if that is dying.
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
