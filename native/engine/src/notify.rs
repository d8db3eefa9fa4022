//! Wakes a thread that waits for work: the watchdog, the interrupter, the releaser.
//!
//! `notify` may be called on any thread, also in a destructor, and never blocks. Only one thread
//! calls `wait`, detached.

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, bounded};
use std::sync::LazyLock;
use std::time::Instant;

/// A notification that is kept until the waiting thread takes it. A second one before that is
/// dropped: the thread looks at all its work after each notification.
pub struct Notify {
    channel: LazyLock<(Sender<()>, Receiver<()>)>,
}

impl Notify {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            channel: LazyLock::new(|| bounded(1)),
        }
    }

    /// Makes the current `wait` return, or the next one.
    pub fn notify(&self) {
        // Fails if the channel is full: the thread has a notification that it has not taken.
        let _: Result<(), _> = self.channel.0.try_send(());
    }

    /// Blocks until a notification, or until `deadline` if there is one.
    pub fn wait(&self, deadline: Option<Instant>) {
        let receiver = &self.channel.1;
        let waited = match deadline {
            Some(deadline) => receiver.recv_deadline(deadline),
            None => receiver
                .recv()
                .map_err(|RecvError| RecvTimeoutError::Disconnected),
        };
        // The channel holds its own sender, so it cannot be disconnected.
        let (Ok(()) | Err(_)) = waited;
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}
