//! Calls that act on processes.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;

/// kill(2) with a number that nix has no name for (real-time signals).
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes two numbers and touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Has a program run with `root` as its root directory, which its own path is below
/// ([chroot(2)](https://man7.org/linux/man-pages/man2/chroot.2.html)).
///
/// # Errors
/// A path with a NUL in it.
pub fn in_root<'c>(command: &'c mut Command, root: &Path) -> io::Result<&'c mut Command> {
    let root = CString::new(root.as_os_str().as_bytes())?;
    let enter = move || {
        // SAFETY: both calls read a string that ends with NUL and lives in this closure, and are
        // safe between fork and exec.
        let done = unsafe { libc::chroot(root.as_ptr()) == 0 && libc::chdir(c"/".as_ptr()) == 0 };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    Ok(unsafe { command.pre_exec(enter) })
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
