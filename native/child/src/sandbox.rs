//! The sandbox of a child: what its code may read, write, execute and reach, by Landlock, and by seccomp
//! where Landlock cannot. Applied once, by the main thread, before any other thread runs and before any
//! code of a user: so every thread and every child process of this process is in the sandbox.
//!
//! A kernel that cannot enforce all of it makes the start fail: never less than was asked for.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use pyo3::prelude::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::error::Error;

/// The oldest version of Landlock that has all that is needed: signals and abstract sockets of other
/// processes can be refused. Linux 6.12.
const NEEDED: ABI = ABI::V6;

/// Directories and files that Python and the C library read; those that do not exist are left out.
const SYSTEM: [&str; 14] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/mime.types",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
];

/// `fchmodat2`, which Linux 6.6 has added, with one number on every platform.
const SYS_FCHMODAT2: i64 = 452;

/// The files and the network that a sandbox allows.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Sandbox {
    /// Paths below which files may be read.
    read: Vec<String>,
    /// Paths below which files may be read, written, made and removed.
    write: Vec<String>,
    /// `none` or `all`.
    network: String,
    /// Whether programs may be started.
    exec: bool,
}

type Fallible<T> = Result<T, Box<dyn Error>>;

impl Sandbox {
    /// Restricts this process from now on.
    pub(crate) fn apply(&self, own: &[String]) -> Fallible<()> {
        self.landlock(own)
            .map_err(|error| format!("this kernel cannot enforce the sandbox: {error}"))?;
        self.seccomp()
    }

    /// Restricts files, signals and abstract sockets. `own`: what Python itself reads.
    fn landlock(&self, own: &[String]) -> Fallible<()> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(NEEDED))?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()?;
        let execute = if self.exec {
            AccessFs::Execute.into()
        } else {
            read & AccessFs::Execute
        };
        for path in SYSTEM
            .into_iter()
            .map(str::to_owned)
            .chain(own.iter().cloned())
        {
            // A path that does not exist needs no rule.
            if let Ok(file) = PathFd::new(&path) {
                rules = allow(rules, file, &path, read | execute)?;
            }
        }
        if self.exec {
            for path in ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"] {
                if let Ok(file) = PathFd::new(path) {
                    rules = allow(rules, file, path, read | execute)?;
                }
            }
        }
        for path in &self.read {
            rules = allow(rules, open(path)?, path, read | execute)?;
        }
        let all = AccessFs::from_all(NEEDED);
        let all = if self.exec {
            all
        } else {
            all & !AccessFs::Execute
        };
        for path in &self.write {
            rules = allow(rules, open(path)?, path, all)?;
        }
        let RestrictionStatus { ruleset, .. } = rules.restrict_self()?;
        if ruleset != RulesetStatus::FullyEnforced {
            return Err("a part of it is not supported".into());
        }
        Ok(())
    }

    /// Refuses system calls: sockets, programs, and those by which a process gets out of a sandbox or
    /// around a filter.
    fn seccomp(&self) -> Fallible<()> {
        if has_x32() {
            return Err(
                "this kernel has the x32 system calls, which the sandbox cannot filter".into(),
            );
        }
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let mut refused = vec![
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_userfaultfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_pidfd_getfd,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            // Landlock does not refuse changes of modes, owners and attributes.
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            SYS_FCHMODAT2,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_removexattr,
            libc::SYS_lremovexattr,
            libc::SYS_fremovexattr,
            // Memory, queues and semaphores that other processes of the user have.
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_msgget,
            libc::SYS_semget,
            libc::SYS_mq_open,
            // Operations of io_uring pass no filter.
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ];
        if !self.exec {
            // Landlock does not see a program in a memfd.
            refused.extend([libc::SYS_execve, libc::SYS_execveat]);
        }
        for call in refused {
            rules.insert(call, Vec::new());
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown] {
            rules.insert(call, Vec::new());
        }
        // Limits and priorities of other processes: 0 names the calling one.
        let of_others = [
            (libc::SYS_prlimit64, 0),
            (libc::SYS_sched_setaffinity, 0),
            (libc::SYS_sched_setscheduler, 0),
            (libc::SYS_sched_setparam, 0),
            (libc::SYS_sched_setattr, 0),
            (libc::SYS_setpriority, 1),
            (libc::SYS_ioprio_set, 1),
            (libc::SYS_migrate_pages, 0),
            (libc::SYS_move_pages, 0),
        ];
        for (call, argument) in of_others {
            let other = condition(argument, SeccompCmpOp::Ne, 0)?;
            rules.insert(call, vec![SeccompRule::new(vec![other])?]);
        }
        if self.network == "none" {
            // Pairs of sockets, which event loops need, reach no other process.
            rules.insert(libc::SYS_socket, Vec::new());
            rules.insert(libc::SYS_connect, Vec::new());
        } else {
            // Raw and packet sockets see the traffic of others.
            let packet = condition(0, SeccompCmpOp::Eq, libc::AF_PACKET)?;
            rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![packet])?]);
        }
        // A namespace of its own would make this process its administrator.
        let namespaces = [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
        ];
        let mut clone = Vec::new();
        for flag in namespaces {
            let bits = u64::from(flag.cast_unsigned());
            let has = SeccompCondition::new(
                0,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(bits),
                bits,
            )?;
            clone.push(SeccompRule::new(vec![has])?);
        }
        rules.insert(libc::SYS_clone, clone);
        let refuse = SeccompAction::Errno(libc::EACCES.cast_unsigned());
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?;
        seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
        // The C library falls back to `clone`, whose flags a filter can see.
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let filter = SeccompFilter::new(clone3, SeccompAction::Allow, unknown, arch)?;
        seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
        Ok(())
    }
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: i32,
) -> Result<SeccompCondition, Box<dyn Error>> {
    let value = u64::from(value.cast_unsigned());
    let length = SeccompCmpArgLen::Dword;
    Ok(SeccompCondition::new(argument, length, operator, value)?)
}

fn open(path: &str) -> Fallible<PathFd> {
    PathFd::new(path).map_err(|_| format!("{path} does not exist, or cannot be opened").into())
}

/// Adds a rule. A file takes fewer rights than a directory.
fn allow(
    rules: RulesetCreated,
    file: PathFd,
    path: &str,
    access: landlock::BitFlags<AccessFs>,
) -> Fallible<RulesetCreated> {
    let access = if std::fs::metadata(path)?.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEEDED)
    };
    Ok(rules.add_rule(PathBeneath::new(file, access))?)
}

/// Whether the kernel has the x32 system calls of x86-64, whose numbers a filter does not know.
#[cfg(target_arch = "x86_64")]
fn has_x32() -> bool {
    const X32: i64 = 0x4000_0000;
    // SAFETY: `getpid` takes no argument.
    unsafe { libc::syscall(X32 | libc::SYS_getpid) >= 0 }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_x32() -> bool {
    false
}
