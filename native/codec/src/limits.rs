//! The limits of a conversion, the same for every reader and writer. Constants only.

/// How deep lists, tuples and maps may nest, in both directions. Bounds the recursion of the conversion;
/// a deeper structure would exceed Python's recursion limit in most uses, too.
pub const MAX_DEPTH: usize = 1_000;

/// Most terms that one object becomes. Shared objects are copied at each use, as in any Erlang message,
/// so a few lines of Python could exhaust the memory: 2^25 list elements are half a GiB.
pub const MAX_TERMS: usize = 1 << 25;

/// Bytes of a list element: a big integer counts as one term for each of these.
pub const LIST_CELL: usize = 16;

/// Most bytes of binaries that one object becomes: 2 GiB. The BEAM aborts when it cannot allocate.
pub const MAX_BYTES: usize = 1 << 31;

/// Terms between two calls of `must_stop`. A conversion runs no Python code that an exception could
/// interrupt.
pub const CHECK_INTERVAL: usize = 1 << 14;

/// Most elements of a tuple: the BEAM aborts on a larger one.
pub(crate) const MAX_ARITY: usize = 0x00ff_ffff;

/// Most bytes of the magnitude of an integer: 2^22 bits less one word. For a larger integer the BEAM's
/// own arithmetic raises `system_limit`.
pub(crate) const MAX_INTEGER: usize = (1 << 22) / 8 - 8;
