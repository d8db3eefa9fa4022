//! A worker in a child process, as the VM sees it: what the child has to do, and what it has said.
//!
//! States: starting; ready; serving, a lease or a job without one; ending a lease; retired, when the
//! child was told to end; dying, when its sockets are closed and its exit status has not come; gone.
//!
//! Called on scheduler threads and by destructors, which never block and send no message, and by the
//! thread of the children. The lock of the state is held for an operation on it, and while a frame is
//! written to a socket without blocking. Nothing that may end a lease is dropped under it: such things
//! are left to [`After`].

use rustler::LocalPid;
use std::panic::RefUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use py_codec::frame::{FrameWriter, Inbox, Message};
use py_codec::protocol::to_child;
use py_engine::lock::lock;

use super::group::{Group, GroupLimits};
use super::io::Io;
use super::pidfd;
use super::request::{self, Place};
use super::state::{After, Phase, Sent, State};
use crate::error::Exited;
use crate::job::Job;
use crate::pool::{Lease, LeaseWorker, ServeLease, Work};
use crate::term::ObjectOwner;
use crate::vm::wake_process_io;

pub(crate) struct ProcessWorker {
    pub(super) id: u64,
    this: Weak<Self>,
    pub(super) group: Weak<Group>,
    pub(super) limits: GroupLimits,
    pub(super) io: &'static Io,
    pub(super) state: Mutex<State>,
    /// The bytes of the child. Used by the thread of the children only.
    pub(super) inbox: Mutex<Inbox>,
    /// When the memory of the child is looked at next. Used by the thread of the children only.
    pub(super) next_look: Mutex<Instant>,
}

// A panic leaves no state half changed: see `py_engine::lock`.
impl RefUnwindSafe for ProcessWorker {}

impl ProcessWorker {
    pub(super) fn new(id: u64, group: &Arc<Group>, io: &'static Io) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            id,
            this: Weak::clone(this),
            group: Arc::downgrade(group),
            limits: group.limits,
            io,
            state: Mutex::new(State::new()),
            inbox: Mutex::default(),
            next_look: Mutex::new(Instant::now()),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Serves an item of the pool's queue; returns it if the child has gone since it was ready. Called by
    /// the group.
    pub(super) fn serve(self: &Arc<Self>, work: Work) -> Result<(), Work> {
        let mut after = Vec::new();
        let mut state = self.state();
        if state.phase != Phase::Ready || state.is_killed {
            return Err(work);
        }
        state.phase = Phase::Serving;
        state.served += 1;
        match work {
            Work::Job(job) => {
                if !self.start(&mut state, &job, 0, &mut after) {
                    after.push(After::Release(Arc::clone(self)));
                }
            }
            Work::Lease(lease) => {
                state.lease = Some(Arc::clone(&lease));
                drop(state);
                let this: Arc<dyn ServeLease> = Arc::clone(self) as Arc<dyn ServeLease>;
                lease.serve_by(LeaseWorker::Process(this));
                self.call();
                return Ok(());
            }
        }
        drop(state);
        self.io.finish(after);
        Ok(())
    }

    /// Has the child do the next thing of its lease. Called on any thread.
    fn step(self: &Arc<Self>, state: &mut State, after: &mut Vec<After>) {
        while matches!(state.phase, Phase::Serving | Phase::Dying | Phase::Gone)
            && state.main.is_none()
            && state.cleaning == 0
            && let Some(lease) = state.lease.clone()
        {
            if state.phase != Phase::Serving {
                // The end of the process refuses what is queued.
                return;
            }
            if lease.is_ended() {
                // A job in the middle of one that has ended is suspended on another stack (greenlet), which goes
                // with the namespace.
                if state.jobs.values().all(|sent| sent.call != 0) {
                    self.end_lease(state, lease, after);
                } else {
                    // The tasks are interrupted by the thread of the children.
                    wake_process_io();
                }
                return;
            }
            let closing = lease.take_iterators_to_close();
            if !closing.is_empty() {
                for stream in closing {
                    let mut frame = FrameWriter::new(to_child::CLOSE);
                    frame.word(stream);
                    self.clean(state, frame.finish());
                }
                return;
            }
            let Some(job) = lease.next() else { return };
            if !self.start(state, &job, lease.id, after) {
                lease.finish_job();
            }
        }
    }

    /// Ends the lease: the child empties its namespace, if it has one.
    fn end_lease(self: &Arc<Self>, state: &mut State, lease: Arc<Lease>, after: &mut Vec<After>) {
        if state.has_namespace {
            state.has_namespace = false;
            state.phase = Phase::Ending;
            self.clean(state, FrameWriter::new(to_child::END_LEASE).finish());
        } else {
            state.lease = None;
            after.push(After::Leave(lease));
            after.push(After::Release(Arc::clone(self)));
        }
    }

    /// Sends a request to clean up.
    fn clean(&self, state: &mut State, frame: Message) {
        state.cleaning += 1;
        state.cleaning_since = Some(Instant::now());
        state.cleaning_stops_at = None;
        self.send_data(state, frame);
        // The thread of the children watches how long it takes.
        self.io.watch_cleaning();
    }

    /// Starts a job of the lease, or one without: `false` if it must not run, or has no frame.
    fn start(&self, state: &mut State, job: &Arc<Job>, lease: u64, after: &mut Vec<After>) -> bool {
        let Some(number) = self.send_job(state, job, lease, 0, after) else {
            return false;
        };
        state.main = Some(number);
        state.has_namespace |= lease != 0;
        true
    }

    /// Sends a job, and returns its number.
    pub(super) fn send_job(
        &self,
        state: &mut State,
        job: &Arc<Job>,
        lease: u64,
        call: u64,
        after: &mut Vec<After>,
    ) -> Option<u64> {
        if !job.ticket.start() {
            after.push(After::Settle(Arc::clone(job)));
            return None;
        }
        state.last_job += 1;
        let place = Place {
            worker: self.id,
            job: state.last_job,
            lease,
            call,
            reloads: self.group.upgrade().map_or(0, |group| group.reloads()),
        };
        match request::frame(job, place) {
            Ok(frame) => {
                let sent = Sent {
                    job: Arc::clone(job),
                    call,
                    since: Instant::now(),
                    stop: None,
                };
                state.last_caller = Some(job.caller);
                state.jobs.insert(place.job, sent);
                let is_control = state.calls.get(&call).is_some_and(|call| !call.is_main);
                if is_control {
                    self.send_control(state, frame);
                } else {
                    self.send_data(state, frame);
                }
                // A thread that ends a lease or a pool sets its flag first and looks at the jobs then: it
                // finds this job, or the end is found here.
                let has_ended = state.lease.as_ref().is_some_and(|lease| lease.is_ended());
                if has_ended || self.group.upgrade().is_none_or(|group| group.is_closed()) {
                    wake_process_io();
                }
                Some(place.job)
            }
            Err(error) => {
                after.push(After::Refuse(Arc::clone(job), error));
                None
            }
        }
    }

    pub(super) fn send_data(&self, state: &State, frame: Message) {
        if let Some(socket) = &state.data {
            socket.send(frame, &self.io.poller);
        }
    }

    pub(super) fn send_control(&self, state: &State, frame: Message) {
        if let Some(socket) = &state.control {
            socket.send(frame, &self.io.poller);
        }
    }

    /// Kills the process. Its sockets close, and the end goes on there.
    pub(super) fn kill(&self, state: &mut State, why: Option<Exited>) {
        state.is_killed = true;
        state.dying_since.get_or_insert_with(Instant::now);
        state.killed = state.killed.or(why);
        if let Some(process) = &state.process {
            pidfd::kill(process);
        }
    }
}

impl ServeLease for ProcessWorker {
    fn call(&self) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        let mut after = Vec::new();
        let mut state = this.state();
        this.step(&mut state, &mut after);
        drop(state);
        this.io.finish(after);
    }

    fn profile(&self, lease: u64, receiver: LocalPid, number: u64, milliseconds: u32) -> bool {
        self.start_profile(lease, receiver, number, milliseconds)
    }
}

impl ObjectOwner for ProcessWorker {
    fn id(&self) -> u64 {
        self.id
    }

    fn release(&self, number: u64) {
        let mut frame = FrameWriter::new(to_child::RELEASE);
        frame.word(number);
        let control = self.state().control.clone();
        if let Some(control) = control {
            control.send(frame.finish(), &self.io.poller);
        }
    }
}
