//! Memory that a child shares with the VM, and binaries over it. Made by the thread of the children; freed on
//! any thread when the last binary over it is garbage.

use py_codec::memory::Memory;
use rustler::{Env, NewBinary, Resource, ResourceArc, Term};

use crate::live_counts::CountGuard;
use crate::vm::VM;

pub(super) struct SharedMemory {
    memory: Memory,
    _counted: CountGuard,
}

#[rustler::resource_impl]
impl Resource for SharedMemory {}

impl SharedMemory {
    pub(super) fn new(memory: Memory) -> ResourceArc<Self> {
        ResourceArc::new(Self {
            memory,
            _counted: VM.counts.objects.enter(),
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory
    }
}

/// Returns a binary of the bytes: not a copy if they lie in `memory`.
pub(super) fn binary<'a>(
    env: Env<'a>,
    bytes: &[u8],
    memory: Option<&ResourceArc<SharedMemory>>,
) -> Term<'a> {
    if let Some(memory) = memory {
        let start = bytes.as_ptr().addr();
        if let Some(start) = start.checked_sub(memory.bytes().as_ptr().addr())
            && let Some(end) = start.checked_add(bytes.len())
            && end <= memory.bytes().len()
        {
            let binary = memory.make_binary(env, |memory| &memory.bytes()[start..end]);
            return binary.to_term(env);
        }
    }
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}
