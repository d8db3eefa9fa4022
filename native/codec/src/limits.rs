//! The limits of a conversion, the same for every reader and writer.

/// How deep lists, tuples and maps may nest, in both directions. It bounds the recursion of the
/// conversion, and is what Python's own recursion limit allows such a structure to be used for.
pub const MAX_DEPTH: usize = 1_000;

/// Terms that one object may become. Shared sub-objects are expanded, as in any Erlang message, so
/// a few lines of Python can ask for more memory than there is: 2^25 list elements are half a GiB.
pub const MAX_TERMS: usize = 1 << 25;

/// Bytes of a list element, by which a big integer counts as terms.
pub const LIST_CELL: usize = 16;

/// Bytes of binaries that one object may become, for the same reason: 2 GiB. The BEAM ends when it
/// cannot allocate, and so does everything in it.
pub const MAX_BYTES: usize = 1 << 31;

/// Terms between two calls of `must_stop`: no Python code runs meanwhile that could be
/// interrupted.
pub const CHECK_INTERVAL: usize = 1 << 14;

/// Elements of a tuple: making a larger one is fatal to the BEAM.
pub(crate) const MAX_ARITY: usize = 0x00ff_ffff;

/// Bytes of the magnitude of an integer. Above it the BEAM's own arithmetic ends with
/// `system_limit`: 2^22 bits less one word.
pub(crate) const MAX_INTEGER: usize = (1 << 22) / 8 - 8;
