//! A binary of the BEAM that Python looks at. Made on workers, attached; dropped by whichever
//! thread drops the last view.

use py_codec::ByteOwner;
use rustler::sys;
use rustler::{OwnedEnv, Term};
use std::mem::MaybeUninit;

/// Kept alive in an environment of its own; big binaries are shared, not copied.
pub(super) struct HeldBinary {
    /// Owns the memory that `data` points to.
    _env: OwnedEnv,
    data: *const u8,
    size: usize,
}

// SAFETY: the binary is immutable, and its environment is not touched again before it is freed.
unsafe impl Send for HeldBinary {}
// SAFETY: as above; only reads of immutable bytes are shared.
unsafe impl Sync for HeldBinary {}

impl HeldBinary {
    /// `None` if `term` is no binary.
    pub(super) fn hold(term: Term<'_>) -> Option<Self> {
        let env = OwnedEnv::new();
        let (data, size) = env.run(|held| {
            let mut binary = MaybeUninit::uninit();
            let copy = term.in_env(held);
            // SAFETY: `copy` is a term of `held`, and `binary` is written when 1 is returned.
            let found = unsafe {
                sys::enif_inspect_binary(held.as_c_arg(), copy.as_c_arg(), binary.as_mut_ptr())
            };
            // SAFETY: initialised by the successful call above.
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
