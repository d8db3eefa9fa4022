//! Profiles: how often each stack of a thread was seen. Used by the inspector.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::guard;
use super::stack::Frame;
use crate::interrupt::Thread;

/// The time between two samples.
const INTERVAL: Duration = Duration::from_millis(10);

/// Most bytes of the different stacks of a profile. Those that come later are counted together.
const MAX_BYTES: usize = 1 << 24;

/// What there is to sample.
pub enum Sample {
    /// The code of the profile runs on this thread.
    Thread(Arc<Thread>),
    /// No code of the profile runs.
    Idle,
    /// There will be nothing to sample any more.
    Ended,
}

pub(crate) struct Profile {
    end: Instant,
    next: Instant,
    target: Box<dyn Fn() -> Sample + Send>,
    finish: Box<dyn FnOnce(String) + Send>,
    counts: HashMap<String, u64>,
    bytes: usize,
}

impl Profile {
    pub(super) fn new(
        time: Duration,
        target: Box<dyn Fn() -> Sample + Send>,
        finish: Box<dyn FnOnce(String) + Send>,
    ) -> Self {
        let now = Instant::now();
        Self {
            end: now + time,
            next: now,
            target,
            finish,
            counts: HashMap::new(),
            bytes: 0,
        }
    }

    /// Returns when the next sample is due, or the end.
    pub(super) fn next(&self) -> Instant {
        self.next.min(self.end)
    }

    pub(super) fn is_over(&self) -> bool {
        self.end <= Instant::now()
    }

    /// Counts a stack, innermost frame first.
    pub(super) fn add(&mut self, stack: &[Frame]) {
        if stack.is_empty() {
            return;
        }
        let mut folded = fold(stack);
        if !self.counts.contains_key(&folded) {
            self.bytes += folded.len();
            if self.bytes > MAX_BYTES {
                "(others)".clone_into(&mut folded);
            }
        }
        *self.counts.entry(folded).or_default() += 1;
    }

    /// Passes the folded stacks on, most frequent first.
    pub(super) fn finish(self) {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_by(|(a, seen_a), (b, seen_b)| seen_b.cmp(seen_a).then_with(|| a.cmp(b)));
        let mut text = String::new();
        for (stack, seen) in counts {
            // Cannot fail: a string takes any text.
            let _: std::fmt::Result = writeln!(text, "{stack} {seen}");
        }
        (self.finish)(text);
    }
}

/// Returns the thread that is to be sampled now, for each profile. Called detached.
pub(super) fn ask(profiles: &mut [Profile]) -> Vec<Option<Arc<Thread>>> {
    let now = Instant::now();
    let ask = |profile: &mut Profile| {
        if profile.next > now {
            return None;
        }
        // A sample that comes late is not made up for.
        profile.next = now + INTERVAL;
        match guard(&profile.target) {
            Some(Sample::Thread(thread)) => Some(thread),
            Some(Sample::Idle) => None,
            Some(Sample::Ended) | None => {
                profile.end = now;
                None
            }
        }
    };
    profiles.iter_mut().map(ask).collect()
}

/// Returns one line: `function (file:line);function (file:line)`, outermost first. A semicolon separates
/// functions, so those in names become commas.
fn fold(stack: &[Frame]) -> String {
    let frame = |frame: &Frame| {
        let text = format!("{} ({}:{})", frame.function, frame.file, frame.line);
        text.replace(';', ",").replace('\n', " ")
    };
    let frames: Vec<_> = stack.iter().rev().map(frame).collect();
    frames.join(";")
}
