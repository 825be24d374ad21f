//! Calls that act on processes.

use nix::errno::Errno;

/// kill(2) with a number that nix has no name for (real-time signals).
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes two numbers and touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}
