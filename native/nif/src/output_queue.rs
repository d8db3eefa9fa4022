//! What Python code has written to standard output and error, and its log records, until `py_output` takes
//! them. Bounded for each process that the code runs for, so that a group leader that reads nothing holds
//! up nobody else.
//!
//! `offer` is called on threads that run Python code, attached, and by the thread of the children; `take`
//! and `written` by `py_output` on schedulers. The lock is held for an operation.

use rustler::LocalPid;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Mutex;

use py_engine::lock::lock;

/// Bytes that may wait for one process.
const CAPACITY: usize = 1 << 20;

/// Most bytes of one entry, and about those of all entries that are taken at once.
const BATCH: usize = 1 << 16;

/// What an entry costs beside its texts.
const ENTRY: usize = 256;

/// What a text is.
#[derive(Debug)]
pub(crate) enum Kind {
    Stdout,
    Stderr,
    /// The text is the message of a record.
    Log(Box<LogPlace>),
}

/// What a log record says beside its message.
#[derive(Clone, Debug)]
pub(crate) struct LogPlace {
    pub(crate) level: u32,
    pub(crate) logger: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) function: String,
    /// The id of the lease that the code runs in.
    pub(crate) lease: Option<u64>,
}

impl Kind {
    /// Returns what an entry of this kind counts as.
    fn cost(&self, text: &str) -> usize {
        let names = match self {
            Self::Stdout | Self::Stderr => 0,
            Self::Log(place) => place.logger.len() + place.file.len() + place.function.len(),
        };
        ENTRY + names + text.len()
    }

    /// Whether the texts of two entries may become one.
    fn continues(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Stdout, Self::Stdout) | (Self::Stderr, Self::Stderr)
        )
    }
}

/// A text, and the process that the code has written it for; `None` if it belongs to no process.
pub(crate) struct Entry {
    pub(crate) caller: Option<LocalPid>,
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// The bytes that it counts as, until it is written.
    pub(crate) cost: usize,
}

/// What became of a text.
pub(crate) enum Offer {
    /// The queue has it. The process must be told that there is something to take.
    Queued(Option<LocalPid>),
    /// Too much waits for the process, but some of it was written not long ago.
    Full,
    /// Too much waits for the process, and nothing reads it. The text counts as dropped.
    Dropped,
}

pub(crate) struct OutputQueue(Mutex<State>);

struct State {
    /// `py_output`; `None` before the first start of the application.
    reader: Option<LocalPid>,
    /// The reader was told, and has not found the queue empty since.
    is_notified: bool,
    entries: VecDeque<Entry>,
    /// What waits for each process, here and in `py_output`.
    waiting: BTreeMap<Option<LocalPid>, Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: usize,
    /// Bytes that were dropped since the last text that was queued.
    dropped: usize,
    /// A thread has waited for room in vain.
    is_stuck: bool,
}

impl OutputQueue {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            reader: None,
            is_notified: false,
            entries: VecDeque::new(),
            waiting: BTreeMap::new(),
        }))
    }

    /// Adds a text. `may_wait`: the caller tries again in a while if the queue is `Full`.
    pub(crate) fn offer(
        &self,
        caller: Option<LocalPid>,
        kind: Kind,
        text: &str,
        may_wait: bool,
    ) -> Offer {
        let state = &mut *lock(&self.0);
        let waiting = state.waiting.entry(caller).or_default();
        if waiting.bytes != 0 && waiting.bytes + kind.cost(text) > CAPACITY {
            // Before the first start nothing reads, and nothing will be written soon.
            if may_wait && !waiting.is_stuck && state.reader.is_some() {
                return Offer::Full;
            }
            waiting.dropped += text.len();
            return Offer::Dropped;
        }
        let mut text = text.to_owned();
        if waiting.dropped > 0 {
            let note = "bytes of output were dropped: nothing has read them";
            text = format!(
                "[erlang_python: {} {note}]\n{text}",
                mem::take(&mut waiting.dropped)
            );
        }
        let cost = kind.cost(&text);
        waiting.bytes += cost;
        state.entries.push_back(Entry {
            caller,
            kind,
            text,
            cost,
        });
        let notify = state.reader.filter(|_| !state.is_notified);
        state.is_notified |= notify.is_some();
        Offer::Queued(notify)
    }

    /// Whether about half of what may wait for a process would be queued, or dropped, at once.
    pub(crate) fn has_room(&self, caller: Option<LocalPid>) -> bool {
        let state = lock(&self.0);
        let waiting = state.waiting.get(&caller);
        state.reader.is_none()
            || waiting.is_none_or(|waiting| waiting.is_stuck || waiting.bytes < CAPACITY / 2)
    }

    /// Has the texts for a process dropped until some of those that wait are written. Called by a thread
    /// that has waited for that long enough.
    pub(crate) fn give_up(&self, caller: Option<LocalPid>) {
        if let Some(waiting) = lock(&self.0).waiting.get_mut(&caller) {
            waiting.is_stuck = true;
        }
    }

    /// Makes `reader` the process that takes the texts. Returns `true` if there is something to take.
    pub(crate) fn serve(&self, reader: LocalPid) -> bool {
        let state = &mut *lock(&self.0);
        state.reader = Some(reader);
        // What the reader before had taken is lost with it.
        state.waiting.clear();
        for entry in &state.entries {
            state.waiting.entry(entry.caller).or_default().bytes += entry.cost;
        }
        state.is_notified = !state.entries.is_empty();
        state.is_notified
    }

    /// Takes the oldest entries; those that follow one another and differ in their text only are one.
    pub(crate) fn take(&self) -> Vec<Entry> {
        let state = &mut *lock(&self.0);
        let mut taken: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH
            && let Some(entry) = state.entries.pop_front()
        {
            bytes += entry.cost;
            match taken.last_mut() {
                Some(last) if last.kind.continues(&entry.kind) && last.caller == entry.caller => {
                    last.text.push_str(&entry.text);
                    last.cost += entry.cost;
                }
                _ => taken.push(entry),
            }
        }
        state.is_notified = !taken.is_empty();
        taken
    }

    /// Counts entries for a process as written, or lost. Says how much was dropped when none is left: returns
    /// `true` if there is something to take then.
    pub(crate) fn written(&self, caller: Option<LocalPid>, cost: usize) -> bool {
        let state = &mut *lock(&self.0);
        let Some(waiting) = state.waiting.get_mut(&caller) else {
            return false;
        };
        waiting.bytes = waiting.bytes.saturating_sub(cost);
        waiting.is_stuck = false;
        if waiting.bytes > 0 {
            return false;
        }
        if waiting.dropped == 0 {
            state.waiting.remove(&caller);
            return false;
        }
        let text = note(mem::take(&mut waiting.dropped));
        let cost = Kind::Stderr.cost(&text);
        waiting.bytes += cost;
        state.entries.push_back(Entry {
            caller,
            kind: Kind::Stderr,
            text,
            cost,
        });
        state.is_notified = true;
        true
    }
}

/// Returns the line that says how many bytes were dropped.
fn note(dropped: usize) -> String {
    format!("[erlang_python: {dropped} bytes of output were dropped: nothing has read them]\n")
}
