//! [keyctl(2)](https://man7.org/linux/man-pages/man2/keyctl.2.html).

use std::ffi::CStr;
use std::io;

use super::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;

/// Possessor may do everything, the user may view, read, search and link.
const PERMISSIONS: libc::c_uint = 0x3f13_0000;

/// Leaves the inherited session keyring for a new one named `name`.
///
/// # Errors
/// `ENOSYS` (no keyrings), `EDQUOT`, `EACCES`, `EPERM` (a seccomp profile).
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated and only read.
    let id = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
    })?;
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, id, PERMISSIONS) })?;
    Ok(())
}
