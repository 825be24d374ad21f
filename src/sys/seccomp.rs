//! [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use super::check;

/// `SECCOMP_FILTER_FLAG_TSYNC`
pub const TSYNC: u64 = 1 << 0;
/// `SECCOMP_FILTER_FLAG_LOG`
pub const LOG: u64 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`
pub const SPEC_ALLOW: u64 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`
pub const NEW_LISTENER: u64 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`
pub const TSYNC_ESRCH: u64 = 1 << 4;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`
pub const WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Loads `program` as a filter of the calling thread (`SECCOMP_SET_MODE_FILTER`).
///
/// Returns the listener with [`NEW_LISTENER`]. With [`TSYNC`] alone, a thread that could not be
/// synchronized is an `ESRCH`, too.
///
/// # Errors
/// The kernel's: `EACCES` (neither `no_new_privs` nor `CAP_SYS_ADMIN`), `EINVAL` (unknown flag,
/// invalid program), `EBUSY` (a second listener), `ESRCH`.
pub fn set_filter(flags: u64, program: &[libc::sock_filter]) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` describes `len` live instructions; the kernel copies them and does not
    // write.
    let ret = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::from_ref(&program),
        )
    })?;
    if flags & NEW_LISTENER == 0 {
        // TSYNC returns the id of a thread that has gone its own way.
        return if ret == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(ret as i32) }))
}

/// Whether the kernel knows the filter return value `action`, whose data part does not count
/// (`SECCOMP_GET_ACTION_AVAIL`, Linux 4.14).
#[must_use]
pub fn action_available(action: u32) -> bool {
    let action = action & libc::SECCOMP_RET_ACTION_FULL;
    // SAFETY: the kernel reads 4 bytes at the given address.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, ptr::from_ref(&action))
    };
    ret == 0
}

/// Whether the kernel takes `flags` together; loads nothing.
#[must_use]
pub fn flags_available(flags: u64) -> bool {
    // SAFETY: the kernel checks the flags before it looks at the null address, and only reads it.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::null::<libc::sock_fprog>(),
        )
    };
    ret < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Any system call, for tests of filters; `args` must not be addresses.
#[cfg(test)]
pub(crate) fn raw(number: i64, args: [u64; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the tests pass numbers only, to calls that take numbers or fail with EFAULT.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}
