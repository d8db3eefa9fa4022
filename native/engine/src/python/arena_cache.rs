//! A cache of the arenas that Python's allocator frees, for its next allocations.
//!
//! Python allocates memory for small objects by the mebibyte, and frees an arena with the last object
//! in it. So for each big list the kernel mapped, cleared and unmapped the pages of the items, which
//! took a quarter of the worker's time. A list of 100,000 integers there and back takes 40 ns an integer
//! with the cache, 49 ns without.
//!
//! Called by Python's allocator on any thread, attached; the lock is for interpreters with a GIL of
//! their own, and held for a few instructions, never across a call.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::lock::lock;

/// Most arenas that are kept: 16 MiB with the arenas of Python 3.11 and later.
const MAX_SPARE: usize = 16;

type Take = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *mut c_void, usize);

/// `PyObjectArenaAllocator`.
#[repr(C)]
struct Allocator {
    context: *mut c_void,
    take: Option<Take>,
    free: Option<Free>,
}

unsafe extern "C" {
    // The limited API lacks these; every Python since 3.4 exports them, with these signatures.
    fn PyObject_GetArenaAllocator(allocator: *mut Allocator);
    fn PyObject_SetArenaAllocator(allocator: *mut Allocator);
}

static ARENAS: Arenas = Arenas {
    python: OnceLock::new(),
    spare: Mutex::new(Spare {
        size: 0,
        count: 0,
        arenas: [0; MAX_SPARE],
    }),
};

struct Arenas {
    /// Python's own functions. They get the same context as the functions of this file.
    python: OnceLock<(Take, Free)>,
    spare: Mutex<Spare>,
}

/// Arenas of one size, by their addresses.
struct Spare {
    size: usize,
    count: usize,
    arenas: [usize; MAX_SPARE],
}

/// Installs the cache. Called once, by `start`, attached, before any other thread runs Python.
pub(crate) fn init() {
    let mut allocator = Allocator {
        context: ptr::null_mut(),
        take: None,
        free: None,
    };
    // SAFETY: attached, so no thread allocates meanwhile; arenas of before are freed by Python's own
    // function, or kept.
    unsafe {
        PyObject_GetArenaAllocator(&raw mut allocator);
        if let (Some(python_take), Some(python_free)) = (allocator.take, allocator.free)
            && ARENAS.python.set((python_take, python_free)).is_ok()
        {
            allocator.take = Some(take);
            allocator.free = Some(free);
            PyObject_SetArenaAllocator(&raw mut allocator);
        }
    }
}

/// Returns an arena, of the cache if it has one of this size; null if there is no memory.
unsafe extern "C" fn take(context: *mut c_void, size: usize) -> *mut c_void {
    if let Some(arena) = spare().pop(size) {
        return ptr::with_exposed_provenance_mut(arena);
    }
    match ARENAS.python.get() {
        // SAFETY: the arguments are those with which Python has called this replacement.
        Some((take, _)) => unsafe { take(context, size) },
        None => ptr::null_mut(),
    }
}

/// Frees an arena, or keeps it in the cache.
unsafe extern "C" fn free(context: *mut c_void, arena: *mut c_void, size: usize) {
    if spare().push(arena.expose_provenance(), size) {
        return;
    }
    if let Some((_, free)) = ARENAS.python.get() {
        // SAFETY: the arguments are those with which Python has called this replacement.
        unsafe { free(context, arena, size) };
    }
}

fn spare() -> MutexGuard<'static, Spare> {
    lock(&ARENAS.spare)
}

impl Spare {
    /// Takes an arena of this size.
    fn pop(&mut self, size: usize) -> Option<usize> {
        if self.size != size {
            return None;
        }
        self.count = self.count.checked_sub(1)?;
        self.arenas.get(self.count).copied()
    }

    /// Keeps an arena; `false` if the cache is full, or has arenas of another size.
    fn push(&mut self, arena: usize, size: usize) -> bool {
        if self.count == 0 {
            self.size = size;
        }
        match self.arenas.get_mut(self.count) {
            Some(entry) if self.size == size => {
                *entry = arena;
                self.count += 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_some_of_one_size() {
        let mut spare = Spare {
            size: 0,
            count: 0,
            arenas: [0; MAX_SPARE],
        };
        assert_eq!(spare.pop(8), None);
        for arena in 1..=MAX_SPARE {
            assert!(spare.push(arena, 8));
        }
        assert!(!spare.push(99, 8));
        assert_eq!(spare.pop(16), None);
        assert_eq!(spare.pop(8), Some(MAX_SPARE));
        assert!(!spare.push(99, 16));
        assert!(spare.push(99, 8));
    }
}
