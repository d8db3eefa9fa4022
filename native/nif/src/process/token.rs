//! The tokens by which the poller names descriptors: a worker, and which of its descriptors. Constants and
//! arithmetic only.

/// The token of the descriptor that wakes the thread. No worker has the id 0.
pub(super) const WAKE: u64 = 0;

/// The descriptors of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Control,
    Listener,
    Process,
}

const KINDS: u64 = 4;

pub(super) fn token(worker: u64, kind: Kind) -> u64 {
    worker * KINDS + kind as u64
}

/// Returns the worker and the descriptor that a token names.
pub(super) fn parts(token: u64) -> (u64, Kind) {
    let kind = match token % KINDS {
        0 => Kind::Data,
        1 => Kind::Control,
        2 => Kind::Listener,
        _ => Kind::Process,
    };
    (token / KINDS, kind)
}
