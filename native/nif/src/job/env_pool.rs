//! Environments that are used again: the BEAM takes a kilobyte for each, which another thread gives
//! back than the one that took it. A submission took 710 ns without this and 560 ns with it.

use rustler::OwnedEnv;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use py_engine::lock::lock;

use crate::vm::VM;

/// Environments that are kept: at most 64 KiB.
const MAX_SPARE: usize = 64;

/// An empty environment, until it is dropped. Runs anywhere.
pub(crate) struct PooledEnv(ManuallyDrop<OwnedEnv>);

impl PooledEnv {
    pub(crate) fn new() -> Self {
        let spare = lock(&VM.spare_envs).pop();
        Self(ManuallyDrop::new(spare.unwrap_or_default()))
    }
}

impl Deref for PooledEnv {
    type Target = OwnedEnv;

    fn deref(&self) -> &OwnedEnv {
        &self.0
    }
}

impl Drop for PooledEnv {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let mut env = unsafe { ManuallyDrop::take(&mut self.0) };
        env.clear();
        let mut spare = lock(&VM.spare_envs);
        if spare.len() < MAX_SPARE {
            spare.push(env);
        } else {
            drop(spare);
            drop(env);
        }
    }
}
