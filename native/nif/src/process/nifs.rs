//! The NIFs of child processes. Each runs on a scheduler thread, and neither attaches, blocks nor sends.

use rustler::{Atom, Encoder, Env, Error as NifError, NifResult, ResourceArc, Term};
use std::time::Duration;

use super::{ChildHandle, GroupHandle, GroupLimits, open};
use crate::error::Exited;
use crate::pool::{Pool, PoolHandle, lease_of};
use crate::vm::notify_watchdog;
use crate::{atoms, exception, watch};

/// The handles of a pool of child processes: of `py_pool_server`, and of `py_children`.
type ProcessPool = (ResourceArc<PoolHandle>, ResourceArc<GroupHandle>);

/// Opens a pool of child processes, and returns what its children are made with, too.
#[rustler::nif]
fn open_process_pool(
    env: Env<'_>,
    name: Atom,
    size: usize,
    max_pending: usize,
    (interrupt_grace, import_grace): (u64, u64),
    (max_jobs, max_rss, memory): (u64, u64, u64),
) -> NifResult<Result<ProcessPool, String>> {
    let pool = Pool::new(name, size, max_pending, env.pid());
    let limits = GroupLimits {
        size,
        grace: Duration::from_millis(interrupt_grace),
        import_grace: Duration::from_millis(import_grace),
        max_jobs,
        max_rss,
        memory,
    };
    let group = match open(&pool, limits) {
        Ok(group) => group,
        Err(error) => return Ok(Err(error.to_string())),
    };
    watch::add_pool(&pool);
    exception::make_kinds(env);
    let handle = PoolHandle::open(env, pool).ok_or(NifError::BadArg)?;
    Ok(Ok((handle, ResourceArc::new(GroupHandle(group)))))
}

/// Sets the number of workers that a pool has.
#[rustler::nif]
fn resize_pool(pool: ResourceArc<PoolHandle>, size: usize) -> Atom {
    pool.0.resize(size);
    // What was queued for more workers is refused.
    notify_watchdog();
    atoms::ok()
}

/// Has each child of the pool of a lease, or of this pool, load a module anew before its next job.
#[rustler::nif]
fn reload_module(target: Term<'_>, module: &str) -> NifResult<Atom> {
    match target.decode::<ResourceArc<PoolHandle>>() {
        Ok(pool) => pool.0.reload(module),
        Err(_) => lease_of(target)?.pool().reload(module),
    }
    Ok(atoms::ok())
}

/// Makes a child of a pool: returns its handle, its id, and the address at which it has to connect.
#[rustler::nif]
fn open_child(
    group: ResourceArc<GroupHandle>,
) -> Result<(ResourceArc<ChildHandle>, u64, String), String> {
    let opened = ChildHandle::open(&group.0).map_err(|error| error.to_string());
    opened.map(|(child, address)| {
        let id = child.id();
        (child, id, address)
    })
}

/// Accepts the sockets of a child, which is the process `pid`.
#[rustler::nif]
fn child_started<'a>(env: Env<'a>, child: ResourceArc<ChildHandle>, pid: u32) -> Term<'a> {
    match child.accept_from(pid) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => env.error_tuple(error.to_string()),
    }
}

/// Passes the exit status of a child on, as a port gives it: 128 and the signal for a signal.
#[rustler::nif]
fn child_exited(child: ResourceArc<ChildHandle>, status: u32) -> Atom {
    child.exited(match status {
        signal @ 129..=192 => Exited::Signal(signal - 128),
        status => Exited::Status(status),
    });
    atoms::ok()
}

#[rustler::nif]
fn kill_child(child: ResourceArc<ChildHandle>) -> Atom {
    child.kill();
    atoms::ok()
}
