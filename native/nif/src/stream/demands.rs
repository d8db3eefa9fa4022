//! The demands on a stream that have no answer yet, and the order of their messages. Scheduler
//! threads, workers and the watchdog come here: nothing blocks. The lock is held for a look.

use rustler::LocalPid;
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Stream;
use crate::submission::Submission;
use crate::ticket::{Cancel, Ticket};

/// One `stream_next`.
pub(crate) struct Demand {
    ticket: Arc<Ticket>,
    /// Known when the job has been accepted.
    submission: OnceLock<Submission>,
    asker: LocalPid,
    /// Its message is sent, or nobody wants one.
    settled: AtomicBool,
    /// It has come to the end of a stream whose lease is its own.
    frees_lease: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Demands(Mutex<State>);

#[derive(Default)]
struct State {
    /// Oldest first. Those that are settled go when the next one comes.
    accepted: Vec<Arc<Demand>>,
    /// Who has asked in vain while something was on its way: so not all of the accepted ones are
    /// settled, and the last of them has these told.
    late: VecDeque<LocalPid>,
    is_telling: bool,
}

impl Demands {
    pub(super) fn are_settled(&self) -> bool {
        self.state().are_settled()
    }

    pub(super) fn accept(&self, demand: Arc<Demand>) {
        let mut state = self.state();
        state.accepted.retain(|demand| !demand.is_settled());
        state.accepted.push(demand);
    }

    /// There is no place for a demand: `true` if something that is on its way must come before it
    /// is told so, and it will be.
    pub(super) fn wait(&self, asker: LocalPid) -> bool {
        let mut state = self.state();
        let must_wait = !state.are_settled();
        if must_wait {
            state.late.push_back(asker);
        }
        must_wait
    }

    /// As `wait`, for one that was accepted.
    pub(crate) fn defer(&self, demand: &Demand) -> bool {
        let mut state = self.state();
        let mut before = state.accepted.iter().take_while(|one| !one.is(demand));
        let must_wait = before.any(|one| !one.is_settled());
        if must_wait {
            state.late.push_back(demand.asker);
        }
        must_wait
    }

    /// The message of a demand is sent, or will never be. If that was the last one on its way, this
    /// gives one of those who wait for it, and has to be called again.
    pub(crate) fn settle(&self, demand: &Demand) -> Option<LocalPid> {
        let mut state = self.state();
        let mut others = state.accepted.iter().filter(|one| !one.is(demand));
        let is_last = others.all(|one| one.is_settled());
        let late = if is_last {
            state.late.pop_front()
        } else {
            None
        };
        state.is_telling = late.is_some();
        if late.is_none() {
            demand.settled.store(true, Ordering::SeqCst);
        }
        late
    }

    /// As `settle`, but `false` and nothing done if a refusal waits for this demand.
    pub(crate) fn settle_unless_awaited(&self, demand: &Demand) -> bool {
        let state = self.state();
        let is_free = state.late.is_empty();
        if is_free {
            demand.settled.store(true, Ordering::SeqCst);
        }
        is_free
    }

    /// `false` while something is about to be sent.
    pub(super) fn cancel(&self) -> bool {
        let mut state = self.state();
        state.late.clear();
        let is_telling = state.is_telling;
        let accepted = state.accepted.clone();
        drop(state);
        // Every one of them, whatever the first says.
        let unsettled = accepted.iter().filter(|demand| !demand.cancel()).count();
        unsettled == 0 && !is_telling
    }

    pub(super) fn cancel_those_of(&self, asker: LocalPid) {
        let accepted = self.state().accepted.clone();
        for demand in accepted.iter().filter(|demand| demand.asker == asker) {
            demand.cancel();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each operation, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn are_settled(&self) -> bool {
        self.accepted.iter().all(|demand| demand.is_settled())
    }
}

impl Demand {
    pub(super) fn new(asker: LocalPid, ticket: &Arc<Ticket>) -> Arc<Self> {
        Arc::new(Self {
            ticket: Arc::clone(ticket),
            submission: OnceLock::new(),
            asker,
            settled: AtomicBool::new(false),
            frees_lease: AtomicBool::new(false),
        })
    }

    pub(super) fn accepted(&self, submission: Submission) {
        // A demand is submitted once.
        let _: Result<(), _> = self.submission.set(submission);
    }

    /// `false` while its message is about to be sent.
    pub(super) fn cancel(&self) -> bool {
        let cancel = match self.submission.get() {
            Some(submission) => submission.cancel(),
            None => self.ticket.cancel(),
        };
        cancel == Cancel::Cancelled || self.is_settled()
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    fn is(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }

    /// As `finish`, with an error that somebody should hear.
    pub(crate) fn fail(&self, stream: &Stream) {
        if !self.ticket.is_cancelled() || stream.is_closed() {
            self.finish(stream);
        } else {
            stream.lose();
        }
    }

    /// The stream is over.
    pub(crate) fn finish(&self, stream: &Stream) {
        stream.finish();
        self.frees_lease.store(stream.owns_lease, Ordering::SeqCst);
    }

    pub(crate) fn frees_lease(&self) -> bool {
        self.frees_lease.load(Ordering::SeqCst)
    }
}
