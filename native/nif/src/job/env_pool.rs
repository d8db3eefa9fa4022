//! Environments that are used again: the BEAM takes a kilobyte for each, and it is given back by
//! another thread than the one that took it.

use crossbeam_channel::{Receiver, Sender, bounded};
use once_cell::sync::Lazy;
use rustler::OwnedEnv;
use std::mem::ManuallyDrop;
use std::ops::Deref;

/// Environments that are kept.
const MAX_SPARE: usize = 64;

static SPARE: Lazy<(Sender<OwnedEnv>, Receiver<OwnedEnv>)> = Lazy::new(|| bounded(MAX_SPARE));

/// An empty environment, until it is dropped. Runs anywhere.
pub(crate) struct PooledEnv(ManuallyDrop<OwnedEnv>);

impl PooledEnv {
    pub(crate) fn new() -> Self {
        let spare = SPARE.1.try_recv();
        Self(ManuallyDrop::new(spare.unwrap_or_else(|_| OwnedEnv::new())))
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
        // Dropped if there are enough.
        let _: Result<(), _> = SPARE.0.try_send(env);
    }
}
