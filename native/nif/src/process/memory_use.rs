//! How much memory a child process has: its own, that of the files in memory which it has open, and that of its
//! own children. Called by the thread of the children, under no lock; reads `/proc`, and blocks on nothing
//! else. See `man 5 proc`.
//!
//! A look has two steps. The first one is cheap, and may count memory twice that is mapped and open, or that
//! two processes have. Only if that is above the limit, the second one reads each mapping.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::pidfd;

/// A process below the child, and its parent.
struct Descendant {
    pid: u32,
    parent: u32,
}

/// The device and the inode of a file in memory, and its bytes.
type Files = HashMap<(u32, u32, u64), u64>;

/// Returns the processes below `pid` if all of them together have more than `limit` bytes; `None` otherwise, also for
/// a process that has gone.
pub(super) fn above(pid: u32, limit: u64) -> Option<Vec<OwnedFd>> {
    let below = descendants(pid);
    let pids = || below.iter().map(|process| process.pid).chain([pid]);
    let mut files = Files::new();
    pids().for_each(|pid| add_files(pid, &mut files));
    let in_files: u64 = files.values().sum();
    let total =
        |own: fn(u32, &Files) -> u64| in_files + pids().map(|pid| own(pid, &files)).sum::<u64>();
    (total(|pid, _| resident(pid)) > limit && total(mapped) > limit).then(|| {
        let handles = below.iter().filter_map(Descendant::open);
        handles.collect()
    })
}

impl Descendant {
    /// Returns a descriptor of the process, unless its pid has been given to another one.
    fn open(&self) -> Option<OwnedFd> {
        let process = pidfd::open(self.pid).ok()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name of the program, in parentheses, may have any character.
        let (_, fields) = stat.rsplit_once(')')?;
        let parent = fields.split_whitespace().nth(1)?.parse::<u32>().ok()?;
        (parent == self.parent).then_some(process)
    }
}

/// Returns the processes below a process, and those below them.
fn descendants(pid: u32) -> Vec<Descendant> {
    let mut found: Vec<Descendant> = Vec::new();
    let mut parent = pid;
    for next in 0.. {
        // A process is the child of the thread that has started it.
        for thread in names(&format!("/proc/{parent}/task")) {
            let children = format!("/proc/{parent}/task/{thread}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            found.extend(children.map(|pid| Descendant { pid, parent }));
        }
        match found.get(next) {
            Some(process) => parent = process.pid,
            None => break,
        }
    }
    found
}

/// Returns the names in a directory; none if the process has gone, or belongs to another user.
fn names(directory: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).ok();
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Adds the files in memory that a process has open: those without a name, and those below `/dev/shm` that the process
/// may write.
fn add_files(pid: u32, files: &mut Files) {
    for name in names(&format!("/proc/{pid}/fd")) {
        let path = format!("/proc/{pid}/fd/{name}");
        let Ok(target) = fs::read_link(&path) else {
            continue;
        };
        let target = target.to_string_lossy();
        let is_counted = target.starts_with("/memfd:")
            || target.starts_with("/dev/shm/") && is_writable(pid, &name);
        if is_counted && let Ok(file) = fs::metadata(&path) {
            // A block has 512 bytes, whatever the file system.
            files.insert(key(&file), file.blocks().saturating_mul(512));
        }
    }
}

fn key(file: &Metadata) -> (u32, u32, u64) {
    (libc::major(file.dev()), libc::minor(file.dev()), file.ino())
}

/// Whether a descriptor of a process is open for writing.
fn is_writable(pid: u32, descriptor: &str) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & i64::from(libc::O_ACCMODE) != i64::from(libc::O_RDONLY))
}

/// Returns the bytes of resident memory of a process; 0 if it has gone.
pub(super) fn resident(pid: u32) -> u64 {
    // The second number is that of resident pages.
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: takes no pointer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages
        .unwrap_or(0)
        .saturating_mul(u64::try_from(page).unwrap_or(4096))
}

/// Returns the bytes that a process has mapped, its share of those that others have too, without the files that
/// are counted already. Of a process that hides its mappings, returns the resident memory.
fn mapped(pid: u32, counted: &Files) -> u64 {
    let Ok(mappings) = fs::read_to_string(format!("/proc/{pid}/smaps")) else {
        return resident(pid);
    };
    let (mut sum, mut is_counted) = (0_u64, false);
    for line in mappings.lines() {
        if let Some(share) = line.strip_prefix("Pss:") {
            let kilobytes = share.split_whitespace().next();
            let kilobytes = kilobytes.and_then(|number| number.parse::<u64>().ok());
            if !is_counted {
                sum += kilobytes.unwrap_or(0).saturating_mul(1024);
            }
        } else if let Some(key) = file_of(line) {
            is_counted = counted.contains_key(&key);
        }
    }
    sum
}

/// Returns the file of the first line of a mapping, `FROM-TO PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`; `None`
/// for other lines.
fn file_of(line: &str) -> Option<(u32, u32, u64)> {
    let mut fields = line.split_whitespace();
    let (major, minor) = fields.nth(3)?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some((number(major)?, number(minor)?, inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_process_is_above_less_than_it_has() {
        assert!(above(id(), MIB).is_some());
        assert!(above(id(), 1 << 50).is_none());
        assert!(above(u32::MAX, MIB).is_none());
    }

    #[test]
    fn mappings_are_less_than_resident_memory() {
        let (share, whole) = (mapped(id(), &Files::new()), resident(id()));
        assert!(share > 0 && share <= whole + MIB, "{share} {whole}");
    }

    #[test]
    fn processes_below_are_found() {
        let script = "sleep 60 & sleep 60 & wait";
        let mut shell = Command::new("sh").args(["-c", script]).spawn().unwrap();
        while descendants(shell.id()).len() < 2 {
            std::thread::yield_now();
        }
        let handles = above(shell.id(), 1).unwrap();
        assert_eq!(handles.len(), 2);
        handles.iter().for_each(pidfd::kill);
        shell.wait().unwrap();
        assert!(descendants(shell.id()).is_empty());
    }

    #[test]
    fn first_lines_name_files() {
        let line = "7f00-7f10 rw-s 00000000 00:01 1535   /memfd:x (deleted)";
        assert_eq!(file_of(line), Some((0, 1, 1535)));
        assert_eq!(file_of("Rss:                 188 kB"), None);
        assert_eq!(file_of("VmFlags: rd wr mr mw me ac sd:x 7"), None);
    }
}
