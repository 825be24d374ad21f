//! Calls that act on processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use rustix::process::{Signal, chroot, fchdir, set_parent_process_death_signal};

/// kill(2) with a number that nix has no name for (real-time signals).
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes two numbers and touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// pidfd_send_signal(2) with any number, 0 as well.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: `pidfd` is open; a null pointer stands for what kill(2) would say, so the call
    // touches no memory.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    Errno::result(done).map(drop)
}

/// Lets `command` start alone: in a process group of its own, without any descriptor of the caller
/// but 0 to 2, with `root` as its root and working directory where one is given, and killed when
/// the calling thread ends. What fails of this is the error of the command's `spawn`.
pub fn isolate(command: &mut Command, root: Option<OwnedFd>) {
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Some(root) = &root {
            fchdir(root)?;
            chroot(".")?;
        }
        super::fd::close_on_exec_from(3)
    };
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec. It makes system calls and nothing else:
    // no allocation, no lock, no memory of another thread.
    unsafe { command.pre_exec(prepare) };
}

/// Whether this process is in a user namespace that has not all ids: somebody's root, not the
/// machine's. The initial one maps all ids to themselves
/// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
///
/// # Errors
/// `ENOENT` from a kernel without user namespaces; whatever else keeps the map from being read.
pub fn in_user_namespace() -> io::Result<bool> {
    std::fs::read_to_string("/proc/self/uid_map").map(|map| is_partial(&map))
}

fn is_partial(map: &str) -> bool {
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::is_partial;

    #[test]
    fn the_machines_own_map_is_whole() {
        assert!(!is_partial("         0          0 4294967295\n"));
        assert!(is_partial("         0       1000          1\n"));
        assert!(is_partial("0 1000 1\n1 100000 65536\n"));
    }
}
