//! Descriptors that survive exec, and those that do not.

use std::io;

use super::check;

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// Marks every descriptor from `first` on to be closed by the next exec
/// ([close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html), Linux 5.11).
///
/// # Errors
/// `ENOSYS`, `EINVAL` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only the close-on-exec flags of descriptors change; none is closed here.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC)
    })?;
    Ok(())
}
