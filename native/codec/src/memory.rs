//! Sealed memory: bytes in a file without a name that nobody can change any more, so that one process
//! writes them once and another reads them in place. Needs no Python. Called on any thread; blocks on
//! nothing but the copy, and `receive` and `send` as their flags say.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The seals without which bytes are not read in place.
const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Returns a descriptor of new sealed memory with the bytes of `pieces`, one after the other.
///
/// # Errors
/// There is no descriptor or no memory left, or the memory is beyond the file size of the process.
pub(crate) fn seal(pieces: &[&[u8]]) -> io::Result<OwnedFd> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    // A write beyond the limit would be a SIGXFSZ, which ends a process.
    // SAFETY: a struct of integers, which the call writes.
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit);
        limit.rlim_cur
    };
    if length as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // SAFETY: the name ends with a zero; returns a descriptor, or -1. The C library of the oldest
    // supported systems has no function for it.
    let made = unsafe {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        libc::syscall(libc::SYS_memfd_create, c"erlang_python".as_ptr(), flags)
    };
    let made = i32::try_from(made).map_err(io::Error::other)?;
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and has no other owner.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(made) });
    for piece in pieces {
        file.write_all(piece)?;
    }
    // SAFETY: takes no pointer.
    if unsafe {
        libc::fcntl(
            file.as_raw_fd(),
            libc::F_ADD_SEALS,
            SEALS | libc::F_SEAL_SEAL,
        )
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    // A kernel of another kind may tell less of such memory: the other side would refuse it.
    measure(file.as_raw_fd())?;
    Ok(file.into())
}

/// Returns the bytes of sealed memory that was written as a whole. Fails for any other descriptor, which
/// another process may have sent.
fn measure(fd: RawFd) -> io::Result<usize> {
    // SAFETY: takes no pointer. Fails for a descriptor of anything but such memory.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    if seals < 0 || seals & SEALS != SEALS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: structs of integers, which the calls write.
    let (about, system) = unsafe {
        let (mut about, mut system): (libc::stat, libc::statfs) = std::mem::zeroed();
        if libc::fstat(fd, &raw mut about) < 0 || libc::fstatfs(fd, &raw mut system) < 0 {
            return Err(io::Error::last_os_error());
        }
        (about, system)
    };
    let length = usize::try_from(about.st_size).map_err(io::Error::other)?;
    let held = usize::try_from(about.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    // Huge pages may be missing when they are read, and the reader of a hole fills it.
    if held < length || system.f_type != libc::TMPFS_MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(length)
}

/// The bytes of sealed memory: mapped for reading, or copied when many are mapped.
#[derive(Debug)]
pub struct Memory(Bytes);

#[derive(Debug)]
enum Bytes {
    Mapped(NonNull<u8>, usize),
    Copied(Vec<u8>),
}

/// The mappings of the process that are alive: a kernel allows 65,530 of all kinds, and without one the
/// allocator of the process fails.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Most mappings at once.
const MAX_MAPPED: usize = 1 << 13;

// SAFETY: the bytes are only read, and the seals keep every process from changing them.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Memory {
    /// Returns the memory of a descriptor, which another process has sent and may have lied about; `None`
    /// if this process has no room for it.
    ///
    /// # Errors
    /// The descriptor is not of sealed memory that was written as a whole, or has fewer than `min` or more
    /// than `max` bytes.
    pub(crate) fn open(descriptor: &OwnedFd, min: usize, max: usize) -> io::Result<Option<Self>> {
        let fd = descriptor.as_raw_fd();
        let length = measure(fd)?;
        if length < min.max(1) || length > max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if MAPPED.fetch_add(1, Ordering::Relaxed) < MAX_MAPPED
            && let Some(start) = map(fd, length)
        {
            return Ok(Some(Self(Bytes::Mapped(start, length))));
        }
        MAPPED.fetch_sub(1, Ordering::Relaxed);
        Ok(copy(fd, length).map(|bytes| Self(Bytes::Copied(bytes))))
    }
}

/// Maps a descriptor; `None` if there is no room.
fn map(fd: RawFd, length: usize) -> Option<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        libc::mmap(std::ptr::null_mut(), length, read, private, fd, 0)
    };
    NonNull::new(start.cast::<u8>()).filter(|start| start.as_ptr().cast() != libc::MAP_FAILED)
}

/// Reads a descriptor from its begin; `None` if there is no room.
fn copy(fd: RawFd, length: usize) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve_exact(length).ok()?;
    while bytes.len() < length {
        let offset = i64::try_from(bytes.len()).ok()?;
        // SAFETY: the room is as long as is said.
        let count = unsafe {
            let room = bytes.spare_capacity_mut();
            libc::pread(fd, room.as_mut_ptr().cast(), room.len(), offset)
        };
        let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
        // SAFETY: the kernel has written as many bytes.
        unsafe { bytes.set_len(bytes.len() + count) };
    }
    Some(bytes)
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the mapping has this length, which the seals keep, and is never written.
            Bytes::Mapped(start, length) => unsafe {
                std::slice::from_raw_parts(start.as_ptr(), *length)
            },
            Bytes::Copied(bytes) => bytes,
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Self::Mapped(start, length) = self {
            // SAFETY: the mapping is that of `open`, and nothing refers to it any more.
            unsafe { libc::munmap(start.as_ptr().cast(), *length) };
            MAPPED.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The room for one descriptor beside the bytes of a message, aligned for the kernel.
#[repr(C, align(8))]
struct Aside([u8; 64]);

/// Sends bytes on a socket, and a descriptor with the first of them; returns how many were sent.
///
/// # Errors
/// That of `sendmsg`; nothing was sent.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    flags: i32,
) -> io::Result<usize> {
    let mut aside = Aside([0; 64]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a struct of integers and pointers, for all of which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if let Some(descriptor) = descriptor {
        message.msg_control = aside.0.as_mut_ptr().cast();
        // SAFETY: the room is aligned, and longer than a header and a descriptor.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            let data = libc::CMSG_DATA(header).cast::<i32>();
            data.write_unaligned(descriptor.as_raw_fd());
        }
    }
    // SAFETY: the message refers to bytes and room that live until the call has returned.
    let sent = unsafe {
        let flags = flags | libc::MSG_NOSIGNAL;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether an error of `send` is one of the descriptor, and not of the socket.
#[must_use]
pub fn is_of_descriptor(error: &io::Error) -> bool {
    let all = [libc::ETOOMANYREFS, libc::EPERM, libc::EACCES, libc::ENOMEM];
    all.into_iter()
        .any(|code| error.raw_os_error() == Some(code))
}

/// The bytes and the descriptor of one read of a socket.
pub struct Received {
    /// 0 if the other end has gone.
    pub count: usize,
    /// The descriptor that came with these bytes; `Some(None)` if it was lost, since this process may
    /// have no more of them.
    pub descriptor: Option<Option<OwnedFd>>,
}

/// Reads what has come, without blocking.
///
/// # Errors
/// That of `recvmsg`: `WouldBlock` if nothing has come. `InvalidData`: more than one descriptor has come.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Received> {
    let mut aside = Aside([0; 64]);
    let mut vector = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // SAFETY: a struct of integers and pointers, for all of which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = aside.0.as_mut_ptr().cast();
    // SAFETY: computes a number. With room for one descriptor the kernel installs no second one.
    message.msg_controllen = unsafe { libc::CMSG_LEN(4) } as _;
    // SAFETY: the message refers to room that lives until the call has returned.
    let count = unsafe {
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags)
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let is_cut = message.msg_flags & libc::MSG_CTRUNC != 0;
    // SAFETY: the kernel has written the header, if there is one, and a whole descriptor behind it.
    let come = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_right = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(4) as usize;
        is_right.then(|| {
            let data = libc::CMSG_DATA(header).cast::<i32>();
            OwnedFd::from_raw_fd(data.read_unaligned())
        })
    };
    let descriptor = match come {
        Some(_) if is_cut => return Err(io::ErrorKind::InvalidData.into()),
        Some(descriptor) => Some(Some(descriptor)),
        None => is_cut.then_some(None),
    };
    Ok(Received { count, descriptor })
}
