//! Keeps a few of the arenas that Python's allocator gives back, for when it asks for the next.
//!
//! Python takes memory for small objects by the mebibyte, and gives it back as soon as the last of
//! them is gone. So each big list that came and went had the kernel map, clear and unmap the pages
//! of its items, and that was a quarter of the worker's time.
//!
//! Called by Python, attached; the lock is for interpreters with a GIL of their own. Held for a
//! few instructions, never across a call.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::lock::lock;

/// What a node keeps that once had more: 16 MiB with the arenas of Python 3.11 and later.
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
    // Not in the limited API, but exported by every Python since 3.4, with these signatures.
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
    /// Python's own functions; they get the context that is set with those of this file.
    python: OnceLock<(Take, Free)>,
    spare: Mutex<Spare>,
}

/// Arenas of one size, by their addresses.
struct Spare {
    size: usize,
    count: usize,
    arenas: [usize; MAX_SPARE],
}

/// Runs once, attached, before any other thread runs Python.
pub(crate) fn init() {
    let mut allocator = Allocator {
        context: ptr::null_mut(),
        take: None,
        free: None,
    };
    // SAFETY: attached, so nobody allocates meanwhile. What was taken before is freed by the same
    // function as ever.
    unsafe {
        PyObject_GetArenaAllocator(&raw mut allocator);
        if let (Some(own_take), Some(own_free)) = (allocator.take, allocator.free)
            && ARENAS.python.set((own_take, own_free)).is_ok()
        {
            allocator.take = Some(take);
            allocator.free = Some(give_back);
            PyObject_SetArenaAllocator(&raw mut allocator);
        }
    }
}

unsafe extern "C" fn take(context: *mut c_void, size: usize) -> *mut c_void {
    if let Some(arena) = spare().pop(size) {
        return ptr::with_exposed_provenance_mut(arena);
    }
    match ARENAS.python.get() {
        // SAFETY: the arguments are those that Python means for it.
        Some((take, _)) => unsafe { take(context, size) },
        None => ptr::null_mut(),
    }
}

unsafe extern "C" fn give_back(context: *mut c_void, arena: *mut c_void, size: usize) {
    if spare().push(arena.expose_provenance(), size) {
        return;
    }
    if let Some((_, free)) = ARENAS.python.get() {
        // SAFETY: as above.
        unsafe { free(context, arena, size) };
    }
}

fn spare() -> MutexGuard<'static, Spare> {
    lock(&ARENAS.spare)
}

impl Spare {
    fn pop(&mut self, size: usize) -> Option<usize> {
        if self.size != size {
            return None;
        }
        self.count = self.count.checked_sub(1)?;
        self.arenas.get(self.count).copied()
    }

    /// `false` if there are enough, or it is of another size.
    fn push(&mut self, arena: usize, size: usize) -> bool {
        if self.count == 0 {
            self.size = size;
        }
        match self.arenas.get_mut(self.count) {
            Some(place) if self.size == size => {
                *place = arena;
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
