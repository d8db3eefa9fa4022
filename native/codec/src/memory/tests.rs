//! Tests of sealed memory, and of descriptors that come with bytes.

use super::*;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn unsealed(seals: i32) -> OwnedFd {
    // SAFETY: the name ends with a zero; the descriptor is new.
    let file = unsafe {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let made = libc::syscall(libc::SYS_memfd_create, c"test".as_ptr(), flags);
        OwnedFd::from_raw_fd(i32::try_from(made).unwrap())
    };
    File::from(file.try_clone().unwrap())
        .write_all(b"abc")
        .unwrap();
    // SAFETY: takes no pointer.
    assert!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0);
    file
}

fn open(descriptor: &OwnedFd, min: usize, max: usize) -> Option<Memory> {
    Memory::open(descriptor, min, max).ok().flatten()
}

/// A hole would be filled by the reader: one frame could cost the VM gigabytes.
#[test]
fn memory_with_a_hole_is_refused() {
    let file = File::from(unsealed(0));
    file.set_len(1 << 30).unwrap();
    // SAFETY: takes no pointer.
    assert!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } == 0);
    assert!(open(&file.into(), 1, 1 << 32).is_none());
}

#[test]
fn sealed_memory_is_read_in_place() {
    let descriptor = seal(&[b"abc", b"", b"de"]).unwrap();
    assert_eq!(&*open(&descriptor, 1, 5).unwrap(), b"abcde");
    assert_eq!(copy(descriptor.as_raw_fd(), 5).unwrap(), b"abcde");
    assert!(open(&descriptor, 1, 4).is_none());
    assert!(open(&descriptor, 6, 9).is_none());
    assert!(open(&seal(&[]).unwrap(), 0, 4).is_none());
    let mut file = File::from(descriptor);
    assert!(file.write_all(b"f").is_err());
    assert!(file.set_len(1).is_err());
}

#[test]
fn memory_that_can_change_is_refused() {
    let no_write = libc::F_SEAL_WRITE;
    let fixed = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    for seals in [0, no_write, fixed, no_write | libc::F_SEAL_SHRINK] {
        assert!(open(&unsealed(seals), 1, 9).is_none(), "{seals}");
    }
    assert!(open(&unsealed(SEALS), 1, 9).is_some());
    let null = File::open("/dev/null").unwrap();
    assert!(open(&null.into(), 0, 9).is_none());
    let (socket, _peer) = UnixStream::pair().unwrap();
    assert!(open(&socket.into(), 0, 9).is_none());
}

#[test]
fn a_descriptor_comes_with_its_bytes() {
    let (here, there) = UnixStream::pair().unwrap();
    let sent = seal(&[b"hello"]).unwrap();
    assert_eq!(send(there.as_fd(), b"a", None, 0).unwrap(), 1);
    let with = Some(sent.as_fd());
    assert_eq!(send(there.as_fd(), b"bcd", with, 0).unwrap(), 3);
    assert_eq!(send(there.as_fd(), b"e", None, 0).unwrap(), 1);
    let mut room = [0; 64];
    let (mut bytes, mut descriptors) = (Vec::<u8>::new(), Vec::new());
    while bytes.len() < 5 {
        let received = receive(here.as_fd(), &mut room).unwrap();
        bytes.extend(&room[..received.count]);
        descriptors.extend(received.descriptor);
    }
    assert_eq!(&bytes[..], b"abcde");
    let [Some(come)] = &descriptors[..] else {
        panic!("{}", descriptors.len());
    };
    assert_eq!(&*open(come, 1, 9).unwrap(), b"hello");
    drop(there);
    let received = receive(here.as_fd(), &mut room).unwrap();
    assert_eq!((received.count, received.descriptor.is_none()), (0, true));
}

#[test]
fn two_descriptors_at_once_are_refused() {
    let (here, there) = UnixStream::pair().unwrap();
    let file = seal(&[b"x"]).unwrap();
    let fds = [file.as_raw_fd(); 2];
    let mut aside = Aside([0; 64]);
    let mut vector = libc::iovec {
        iov_base: b"z".as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    // SAFETY: as `send`, with two descriptors.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = aside.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(8) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(8) as _;
        let data = libc::CMSG_DATA(header).cast::<[i32; 2]>();
        data.write_unaligned(fds);
        libc::sendmsg(there.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, 1);
    let refused = receive(here.as_fd(), &mut [0; 8]);
    assert!(refused.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData));
}
