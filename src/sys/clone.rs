//! [clone3(2)](https://man7.org/linux/man-pages/man2/clone.2.html).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// Start the child in the cgroup of `clone_args.cgroup` (linux/sched.h).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone3`] is to do beyond a plain fork.
#[derive(Debug, Default)]
pub struct CloneArgs<'a> {
    /// `CLONE_NEW*` and `CLONE_PARENT`; nothing that shares memory.
    pub flags: u64,
    /// A cgroup v2 directory to start the child in (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Which side of the fork returned.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The caller, with the child's pid as the caller sees it and a pidfd on it.
    Parent {
        /// The child's pid in the caller's pid namespace.
        pid: i32,
        /// A descriptor that becomes readable when the child ends.
        pidfd: OwnedFd,
    },
}

#[repr(C)]
#[derive(Default)]
struct RawArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks the calling process, which must have one thread only, into new namespaces and a cgroup.
///
/// # Errors
/// The kernel's: `EPERM`, `ENOSPC` (a namespace limit), `EBUSY` (cgroup v2 with controllers that
/// forbid processes there), `EAGAIN` (pids limit), `ENOSYS` before Linux 5.3.
pub fn clone3(args: &CloneArgs<'_>) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    let mut raw = RawArgs {
        flags: args.flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        // With CLONE_PARENT the kernel takes the parent's exit signal and wants 0 here.
        exit_signal: if args.flags & libc::CLONE_PARENT as u64 == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        ..RawArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of the memory and goes on on its own copy of
    // this stack, as after fork(2); the process has one thread, so no lock is held by another.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut raw), size_of::<RawArgs>())
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent { pid: pid as i32, pidfd })
}

/// Finds out whether [`clone3`] works with these arguments: the child ends at once.
///
/// # Errors
/// Those of [`clone3`].
pub fn try_clone(args: &CloneArgs<'_>) -> io::Result<()> {
    match clone3(args)? {
        // SAFETY: ends this process and nothing else; no destructor or exit handler runs twice.
        Forked::Child => unsafe { libc::_exit(0) },
        Forked::Parent { pid, .. } => {
            // Nobody else waits for it, and it has no state that would matter.
            // SAFETY: waits for a child by its number; no status is asked for.
            check(libc::c_long::from(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }))?;
            Ok(())
        }
    }
}
