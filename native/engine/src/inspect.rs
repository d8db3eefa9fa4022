//! Looks at the Python code that other threads run: the inspector, the thread `py_inspector`, which is
//! started by the first request.
//!
//! The inspector attaches for the length of a look, and blocks until then as long as C code of another
//! thread keeps the GIL. As the interrupter, it attaches without PyO3 and runs no Python code, so that no
//! finalizer runs on it: it reads attributes of frames, code objects and coroutines, which are fields in C.
//! `intern!` would release the GIL at its first use, and the frames would go on: so the names are made before.
//! The one exception is an audit hook that user code has added, which Python calls for some of them.
//! COMPAT(3.11): a frame that is made for a look may start a garbage collection, which is disabled meanwhile.

mod profile;
mod stack;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::host::Host;
use crate::interpreter;
use crate::interrupt::{Thread, attached};
use crate::python::switch_interval;

pub use profile::Sample;
use profile::{Profile, ask};
pub use stack::Frame;
pub(crate) use stack::fields;
use stack::{coroutine_frames, frames_of};

/// Most requests that wait, as long as C code keeps the GIL.
const MAX_REQUESTS: usize = 1024;

/// What the inspector does without the GIL after a look: it sends what was found.
pub type Finish = Box<dyn FnOnce() + Send>;
/// A look at other threads. Runs attached.
pub type Look = Box<dyn FnOnce(&View<'_>) -> Finish + Send>;

/// A request to the inspector.
pub(crate) enum Request {
    Look(Look),
    Profile(Profile),
}

/// Has the inspector look at other threads. Called on any thread, also of a scheduler; never blocks.
///
/// # Errors
/// The thread of the inspector could not be started, or too many requests wait for the GIL.
pub fn look(look: Look) -> io::Result<()> {
    submit(Request::Look(look))
}

/// Has the inspector sample the stack of a thread for `time`, a hundred times a second. `target` says
/// before each sample what to do, detached; without anything to sample no thread is held up. `finish` is
/// called at the end, detached, with the folded stacks: a line for each, its functions from the outermost
/// on, and how often it was seen.
///
/// # Errors
/// The thread of the inspector could not be started, or too many requests wait for the GIL.
pub fn profile(
    time: Duration,
    target: impl Fn() -> Sample + Send + 'static,
    finish: impl FnOnce(String) + Send + 'static,
) -> io::Result<()> {
    let profile = Profile::new(time, Box::new(target), Box::new(finish));
    submit(Request::Profile(profile))
}

fn submit(request: Request) -> io::Result<()> {
    let missing = || io::Error::other("Python has not been set up");
    let interpreter = interpreter::get().ok_or_else(missing)?;
    let inspector = interpreter.inspector.get_or_try_init(start)?;
    let requests: Option<&Sender<Request>> = inspector.downcast_ref();
    // The inspector never ends, but it may be stuck.
    let full = |_| io::Error::other("too many requests wait for the GIL");
    requests
        .ok_or_else(missing)?
        .try_send(request)
        .map_err(full)
}

fn start() -> io::Result<Box<dyn Any + Send + Sync>> {
    let (sender, receiver) = bounded(MAX_REQUESTS);
    let builder = thread::Builder::new().name("py_inspector".to_owned());
    builder.spawn(move || run(&receiver))?;
    Ok(Box::new(sender))
}

/// The loop of the inspector; never returns.
fn run(requests: &Receiver<Request>) {
    let mut profiles: Vec<Profile> = Vec::new();
    loop {
        let next = profiles.iter().map(Profile::next).min();
        let first = match next {
            Some(next) => requests.recv_deadline(next),
            // The last profile has ended since the interval was last set.
            None if switch_interval::is_kept() => Err(RecvTimeoutError::Timeout),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut looks = Vec::new();
        for request in first.into_iter().chain(requests.try_iter()) {
            match request {
                Request::Look(look) => looks.push(look),
                Request::Profile(profile) => profiles.push(profile),
            }
        }
        serve(looks, &mut profiles);
    }
}

/// Answers what has been asked, in one look, and ends the profiles that are over.
fn serve(looks: Vec<Look>, profiles: &mut Vec<Profile>) {
    let threads = ask(profiles);
    let samples = threads.iter().any(Option::is_some);
    let mut finish = Vec::new();
    if samples || !looks.is_empty() || switch_interval::is_kept() {
        with_view(|view| {
            finish.extend(looks.into_iter().filter_map(|look| guard(|| look(view))));
            for (profile, thread) in profiles.iter_mut().zip(threads) {
                if let Some(thread) = thread {
                    profile.add(&view.stack(&thread));
                }
            }
            let is_alone = samples && view.threads() <= 1;
            switch_interval::keep(is_alone && profiles.iter().any(|profile| !profile.is_over()));
        });
    }
    for finish in finish {
        guard(finish);
    }
    for profile in profiles.extract_if(.., |profile| profile.is_over()) {
        guard(|| profile.finish());
    }
}

/// Calls a function of the host. A panic in it ends nothing else.
fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Calls `body` attached. Python goes on nowhere else meanwhile.
fn with_view(body: impl FnOnce(&View<'_>)) {
    attached(true, |_| {
        // SAFETY: attached for the length of `body`.
        let py = unsafe { Python::assume_attached() };
        let _no_collection = NoCollection::begin();
        let frames = current_frames(py);
        body(&View { py, frames });
    });
}

/// Puts garbage collections off. Made and dropped attached.
struct NoCollection {
    was_enabled: bool,
}

impl NoCollection {
    fn begin() -> Self {
        // SAFETY: attached; takes no argument.
        let was_enabled = unsafe { ffi::PyGC_Disable() } != 0;
        Self { was_enabled }
    }
}

impl Drop for NoCollection {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: attached; takes no argument.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// Returns the innermost frame of each thread that runs Python code, by the identity of the thread.
fn current_frames(py: Python<'_>) -> Option<Bound<'_, PyDict>> {
    let function = interpreter::find(py).ok()?.current_frames.bind(py);
    function.call0().ok()?.cast_into().ok()
}

/// The Python code of all threads at one moment.
pub struct View<'py> {
    py: Python<'py>,
    frames: Option<Bound<'py, PyDict>>,
}

impl View<'_> {
    /// Returns how many threads run Python code, or wait in the middle of some.
    fn threads(&self) -> usize {
        self.frames.as_ref().map_or(0, |frames| frames.len())
    }

    /// Returns the stack of a thread, innermost frame first; empty if it runs no Python code.
    #[must_use]
    pub fn stack(&self, thread: &Thread) -> Vec<Frame> {
        let Some(frames) = &self.frames else {
            return Vec::new();
        };
        let frame = frames.get_item(thread.ident()).ok().flatten();
        frame.map_or_else(Vec::new, |frame| frames_of(frame, thread.base()))
    }

    /// Returns the hosts of the asyncio tasks of the lease that a thread serves, each with the frames of
    /// its coroutine, innermost first.
    #[must_use]
    pub fn tasks(&self, thread: &Thread) -> Vec<(Arc<dyn Host>, Vec<Frame>)> {
        let Some(tasks) = thread.tasks() else {
            return Vec::new();
        };
        let tasks = tasks.coroutines(self.py).into_iter();
        tasks
            .map(|(host, coroutine)| (host, coroutine_frames(coroutine)))
            .collect()
    }
}
