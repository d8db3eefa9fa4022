//! The state that the system keeps for the thread of a worker: signal mask, name, processors,
//! priority, locale, floating-point environment.
//!
//! `begin` runs once on each worker; `note` is called by Python code on any thread, before it
//! changes something; `restore` by the worker at the end of a context, as the last there is.
//! Nothing here runs Python code.

use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int};
use std::mem;
use std::sync::atomic::Ordering;

use crate::interpreter;

thread_local! {
    static STATE: ThreadState = const { ThreadState::new() };
}

/// What is known of the calling thread.
struct ThreadState {
    /// The state that every context finds on this worker; `None` on any other thread.
    own: RefCell<Option<Cheap>>,
    /// The state before code of the context has called a function that changes it.
    before: RefCell<Option<Scheduling>>,
    /// Such a function was called.
    has_changed: Cell<bool>,
    /// A trace or profile function, or a hook of asynchronous generators, was set or taken off.
    has_traced: Cell<bool>,
    /// The value of `Audit::traced_all` that the thread has taken notice of.
    seen_traced_all: Cell<u64>,
}

impl ThreadState {
    const fn new() -> Self {
        Self {
            own: RefCell::new(None),
            before: RefCell::new(None),
            has_changed: Cell::new(false),
            has_traced: Cell::new(false),
            seen_traced_all: Cell::new(0),
        }
    }
}

/// The calling thread may have a trace or a profile function, or hooks of asynchronous generators.
pub(crate) fn has_traced() -> bool {
    STATE.with(|state| state.has_traced.get() || state.seen_traced_all.get() != traced_all())
}

/// A trace or profile function was set, or could not be taken off.
pub(crate) fn note_traced() {
    // Fails while the thread ends.
    let _: Result<(), _> = STATE.try_with(|state| state.has_traced.set(true));
}

/// Resets `has_traced`, which reports what comes after this.
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

/// As big as that of any libc.
#[repr(C, align(16))]
struct FloatingPoint([u8; 128]);

unsafe extern "C" {
    fn fegetenv(environment: *mut FloatingPoint) -> c_int;
    fn fesetenv(environment: *const FloatingPoint) -> c_int;
}

/// State that is quickly set, and that nothing outside of the VM changes.
struct Cheap {
    signals: libc::sigset_t,
    /// Of at most 15 bytes and a NUL.
    name: [c_char; 16],
    locale: libc::locale_t,
    floating_point: FloatingPoint,
}

/// State that an administrator changes as well.
struct Scheduling {
    processors: Option<libc::cpu_set_t>,
    nice: c_int,
    policy: c_int,
    priority: libc::sched_param,
}

/// The calling thread is a worker that serves no context yet.
pub(crate) fn begin() {
    STATE.with(|state| state.own.replace(Some(Cheap::now())));
}

/// Called by Python's own functions before they change the calling thread.
#[pyfunction]
pub(crate) fn note_change() {
    STATE.with(|state| {
        state.has_changed.set(true);
        if state.own.borrow().is_some() && state.before.borrow().is_none() {
            state.before.replace(Some(Scheduling::now()));
        }
    });
}

/// The context may have changed the calling thread.
pub(crate) fn has_changed() -> bool {
    STATE.with(|state| state.has_changed.get())
}

/// Sets what the context may have changed as it was.
pub(crate) fn restore() {
    STATE.with(|state| {
        state.has_changed.set(false);
        state.own.borrow().iter().for_each(Cheap::set);
        if let Some(before) = state.before.take() {
            before.set();
        }
    });
}

impl Cheap {
    fn now() -> Self {
        // SAFETY: each call fills what it is given, which zeroes are a valid value of.
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
        // SAFETY: what `now` has filled, on the same thread.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.signals,
                std::ptr::null_mut(),
            );
            libc::pthread_setname_np(libc::pthread_self(), self.name.as_ptr());
            libc::uselocale(self.locale);
            fesetenv(&raw const self.floating_point);
        }
    }
}

impl Scheduling {
    fn now() -> Self {
        // SAFETY: as in `Cheap::now`.
        unsafe {
            let mut processors: libc::cpu_set_t = mem::zeroed();
            // Fails where there are more than the type holds.
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

    /// As far as the system allows it.
    fn set(&self) {
        // SAFETY: what `now` has filled. 0 is the calling thread.
        unsafe {
            if let Some(processors) = &self.processors {
                libc::sched_setaffinity(0, size_of_val(processors), processors);
            }
            libc::sched_setscheduler(0, self.policy, &raw const self.priority);
            libc::setpriority(libc::PRIO_PROCESS, 0, self.nice);
        }
    }
}
