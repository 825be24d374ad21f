//! [keyctl(2)](https://man7.org/linux/man-pages/man2/keyctl.2.html).

use std::ffi::CStr;
use std::io;

use super::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;

/// Possessor may do everything, the user may view, read, search and link.
const PERMISSIONS: libc::c_uint = 0x3f1b_0000;

/// A session keyring that was joined.
#[derive(Debug)]
pub struct SessionKeyring(libc::c_long);

impl SessionKeyring {
    /// Leaves the inherited session keyring for the one named `name`: the first of that name that
    /// the process may search, or a new one.
    ///
    /// # Errors
    /// `ENOSYS` (no keyrings), `EDQUOT`, `EACCES`, `EPERM` (a seccomp profile).
    pub fn join(name: &CStr) -> io::Result<Self> {
        // SAFETY: `name` is NUL-terminated and only read.
        let id = check(unsafe {
            libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
        })?;
        Ok(Self(id))
    }

    /// Lets processes of the same user join it.
    ///
    /// # Errors
    /// `EACCES`: it is somebody else's.
    pub fn share(&self) -> io::Result<()> {
        // SAFETY: numbers only.
        check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, self.0, PERMISSIONS) })?;
        Ok(())
    }
}
