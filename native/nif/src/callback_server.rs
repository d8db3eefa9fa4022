//! `py_callback`, the process that serves Python code, and the names of the functions that it has.
//! Changed on scheduler threads, read on threads that run Python code; the lock is held for a look.

use rustler::LocalPid;
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use py_engine::lock::lock;

pub(crate) struct CallbackServer {
    /// The process; `None` before the first start of the application. Locked for a look.
    process: Mutex<Option<Process>>,
    /// The number of messages that wait for each node, by its name in the external term format; see
    /// `host/outgoing.rs`. No number is 0.
    pub(crate) outgoing: Mutex<BTreeMap<Vec<u8>, usize>>,
    /// How often a function was removed, or the process has changed. A child process keeps the names that
    /// it has asked for until this changes.
    generation: AtomicU64,
}

struct Process {
    pid: LocalPid,
    /// The names of the functions that are registered.
    functions: HashSet<String>,
}

impl CallbackServer {
    pub(crate) const fn new() -> Self {
        Self {
            process: Mutex::new(None),
            outgoing: Mutex::new(BTreeMap::new()),
            generation: AtomicU64::new(0),
        }
    }

    /// Returns the generation of the registered functions.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Makes `pid` the process that serves Python code. Called on a scheduler thread.
    pub(crate) fn serve(&self, pid: LocalPid, functions: HashSet<String>) {
        *lock(&self.process) = Some(Process { pid, functions });
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Adds a function. Called on a scheduler thread.
    pub(crate) fn add_function(&self, name: String) {
        if let Some(process) = &mut *lock(&self.process) {
            process.functions.insert(name);
        }
    }

    /// Removes a function. Called on a scheduler thread.
    pub(crate) fn remove_function(&self, name: &str) {
        if let Some(process) = &mut *lock(&self.process) {
            process.functions.remove(name);
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the process that serves Python code; `None` before the first start of the application.
    pub(crate) fn pid(&self) -> Option<LocalPid> {
        lock(&self.process).as_ref().map(|process| process.pid)
    }

    pub(crate) fn is_registered(&self, name: &str) -> bool {
        let process = lock(&self.process);
        process
            .as_ref()
            .is_some_and(|process| process.functions.contains(name))
    }

    pub(crate) fn registered(&self) -> Vec<String> {
        let process = lock(&self.process);
        let functions = process.as_ref().map(|process| &process.functions);
        functions.into_iter().flatten().cloned().collect()
    }
}
