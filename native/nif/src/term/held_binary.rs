//! A binary of the BEAM that Python reads through a memory view. Made by the reader on workers,
//! attached; dropped on the thread that drops the last view. Nothing here blocks.

use py_codec::ByteOwner;
use rustler::sys;
use rustler::{OwnedEnv, Term};
use std::mem::MaybeUninit;

/// A binary in an environment of its own, which keeps it alive; big binaries are shared, not
/// copied.
pub(super) struct HeldBinary {
    /// The owner of the memory that `data` points to.
    _env: OwnedEnv,
    data: *const u8,
    size: usize,
}

// SAFETY: the binary is immutable, and its environment is not used again before it is freed.
unsafe impl Send for HeldBinary {}
// SAFETY: only reads of immutable bytes are shared.
unsafe impl Sync for HeldBinary {}

impl HeldBinary {
    /// Copies or shares a binary; `None` if `term` is no binary.
    pub(super) fn hold(term: Term<'_>) -> Option<Self> {
        let env = OwnedEnv::new();
        let (data, size) = env.run(|held| {
            let mut binary = MaybeUninit::uninit();
            let copy = term.in_env(held);
            // SAFETY: `copy` is a term of `held`, and `binary` is written when 1 is returned.
            let found = unsafe {
                sys::enif_inspect_binary(held.as_c_arg(), copy.as_c_arg(), binary.as_mut_ptr())
            };
            // SAFETY: `enif_inspect_binary` has returned 1, so `binary` is initialised.
            (found == 1)
                .then(|| unsafe { binary.assume_init() })
                .map(|b| (b.data, b.size))
        })?;
        Some(Self {
            _env: env,
            data,
            size,
        })
    }
}

impl ByteOwner for HeldBinary {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `data` and `size` describe a live binary held by `_env`.
        unsafe { std::slice::from_raw_parts(self.data, self.size) }
    }
}
