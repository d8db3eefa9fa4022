//! Saves and restores the state that the system keeps for the thread of a worker: signal mask, name,
//! processors, priority, locale, floating-point environment.
//!
//! `begin` is called once on each worker; `note_change` by the patches on any thread, before code
//! changes the state; `restore` by the worker at the end of a context. Called attached; no function
//! here runs Python code or blocks.

use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int};
use std::mem;
use std::sync::atomic::Ordering;

use crate::interpreter;

thread_local! {
    static STATE: ThreadState = const { ThreadState::new() };
}

/// The saved state of the calling thread, and whether it may have changed.
struct ThreadState {
    /// The state that every context finds on this worker; `None` on any other thread.
    initial: RefCell<Option<Attributes>>,
    /// The state before code of the context has first called a function that changes it.
    before: RefCell<Option<Scheduling>>,
    /// Set once such a function was called.
    has_changed: Cell<bool>,
    /// Set once a trace or profile function, or a hook of asynchronous generators, was set or removed.
    has_traced: Cell<bool>,
    /// The value of `Audit::traced_all` at the last call of `forget_traced`.
    seen_traced_all: Cell<u64>,
}

impl ThreadState {
    const fn new() -> Self {
        Self {
            initial: RefCell::new(None),
            before: RefCell::new(None),
            has_changed: Cell::new(false),
            has_traced: Cell::new(false),
            seen_traced_all: Cell::new(0),
        }
    }
}

/// Whether the calling thread may have a trace or a profile function, or hooks of asynchronous
/// generators.
pub(crate) fn has_traced() -> bool {
    STATE.with(|state| state.has_traced.get() || state.seen_traced_all.get() != traced_all())
}

/// Makes `has_traced` return `true`. Called by the audit hook, or when a reset has failed.
pub(crate) fn note_traced() {
    // Fails while the thread ends, when its thread-locals are gone.
    let _: Result<(), _> = STATE.try_with(|state| state.has_traced.set(true));
}

/// Resets `has_traced`, which reports later calls only.
pub(crate) fn forget_traced() {
    STATE.with(|state| {
        state.has_traced.set(false);
        state.seen_traced_all.set(traced_all());
    });
}

fn traced_all() -> u64 {
    let audit = interpreter::get().map(|interpreter| &interpreter.audit);
    audit.map_or(0, |audit| audit.traced_all.load(Ordering::Relaxed))
}

/// A `fenv_t`, at least as big as that of any libc.
#[repr(C, align(16))]
struct FloatingPoint([u8; 128]);

unsafe extern "C" {
    fn fegetenv(environment: *mut FloatingPoint) -> c_int;
    fn fesetenv(environment: *const FloatingPoint) -> c_int;
}

/// The state that only the thread itself changes, and that is cheap to set: restored at the end of
/// every context.
struct Attributes {
    signals: libc::sigset_t,
    /// At most 15 bytes and a NUL.
    name: [c_char; 16],
    locale: libc::locale_t,
    floating_point: FloatingPoint,
}

/// The state that an administrator may change as well: restored only after code of the context has
/// changed it.
#[cfg(target_os = "linux")]
struct Scheduling {
    processors: Option<libc::cpu_set_t>,
    nice: c_int,
    policy: c_int,
    priority: libc::sched_param,
}

/// Elsewhere the processors and the priority are those of the process, which no context restores.
#[cfg(not(target_os = "linux"))]
struct Scheduling;

/// Saves the state of the calling thread. Called by a worker before it serves its first context.
pub(crate) fn begin() {
    STATE.with(|state| state.initial.replace(Some(Attributes::now())));
}

/// Records that code changes the calling thread. Called by the patched functions before they do.
#[pyfunction]
pub(crate) fn note_change() {
    STATE.with(|state| {
        state.has_changed.set(true);
        if state.initial.borrow().is_some() && state.before.borrow().is_none() {
            state.before.replace(Some(Scheduling::now()));
        }
    });
}

/// Whether code of the context may have changed the calling thread.
pub(crate) fn has_changed() -> bool {
    STATE.with(|state| state.has_changed.get())
}

/// Restores the state that every context finds.
pub(crate) fn restore() {
    STATE.with(|state| {
        state.has_changed.set(false);
        state.initial.borrow().iter().for_each(Attributes::set);
        if let Some(before) = state.before.take() {
            before.set();
        }
    });
}

impl Attributes {
    fn now() -> Self {
        // SAFETY: zeroes are a valid value of each field, and each call fills the field that it gets.
        unsafe {
            let mut now: Self = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut now.signals);
            let name = now.name.as_mut_ptr();
            libc::pthread_getname_np(libc::pthread_self(), name, mem::size_of_val(&now.name));
            now.locale = libc::uselocale(std::ptr::null_mut());
            fegetenv(&raw mut now.floating_point);
            now
        }
    }

    fn set(&self) {
        // SAFETY: `now` has filled the fields, on the same thread.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.signals,
                std::ptr::null_mut(),
            );
            #[cfg(target_os = "linux")]
            libc::pthread_setname_np(libc::pthread_self(), self.name.as_ptr());
            #[cfg(not(target_os = "linux"))]
            libc::pthread_setname_np(self.name.as_ptr());
            libc::uselocale(self.locale);
            fesetenv(&raw const self.floating_point);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Scheduling {
    fn now() -> Self {
        Self
    }

    fn set(&self) {}
}

#[cfg(target_os = "linux")]
impl Scheduling {
    fn now() -> Self {
        // SAFETY: zeroes are a valid value of each structure, and each call fills the one that it gets.
        unsafe {
            let mut processors: libc::cpu_set_t = mem::zeroed();
            // Fails on a machine with more processors than the type has room for.
            let got = libc::sched_getaffinity(0, size_of_val(&processors), &raw mut processors);
            let mut priority: libc::sched_param = mem::zeroed();
            libc::sched_getparam(0, &raw mut priority);
            Self {
                processors: (got == 0).then_some(processors),
                nice: libc::getpriority(libc::PRIO_PROCESS, 0),
                policy: libc::sched_getscheduler(0),
                priority,
            }
        }
    }

    /// Restores the state. The system may refuse it, as a higher priority: then it stays.
    fn set(&self) {
        // SAFETY: `now` has filled the fields; 0 is the calling thread.
        unsafe {
            if let Some(processors) = &self.processors {
                libc::sched_setaffinity(0, size_of_val(processors), processors);
            }
            libc::sched_setscheduler(0, self.policy, &raw const self.priority);
            libc::setpriority(libc::PRIO_PROCESS, 0, self.nice);
        }
    }
}
