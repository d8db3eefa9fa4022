//! How a thread that waits in the middle of Python code is woken: a worker gets in line for its
//! turn, any other thread is just woken. Never blocks.

use std::sync::Arc;
use std::thread::Thread;

use crate::bell::Bell;
use crate::turn::{self, Seat};

pub(crate) enum Waker {
    Worker(Arc<Seat>),
    Thread(Thread),
    /// Of an event loop, and the number of the callback that it is for.
    Bell(Arc<Bell>, u64),
    /// Nobody waits: somebody looks now and then.
    Nobody,
}

impl Waker {
    pub(crate) fn wake(&self) {
        match self {
            Self::Worker(seat) => turn::call(seat),
            Self::Thread(thread) => thread.unpark(),
            Self::Bell(bell, callback) => bell.ring_for(*callback),
            Self::Nobody => {}
        }
    }
}
