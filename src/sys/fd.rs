//! Descriptors that survive exec, and those that do not.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;

use super::check;

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// More descriptors than the program has at a time.
const MOST_OPEN: u32 = 4096;

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

/// Lets `command` start with stdin, stdout and stderr and no other descriptor that somebody has
/// left open in this process.
pub fn only_streams_in(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec there is one system call, which neither allocates nor locks.
    unsafe { command.pre_exec(|| close_on_exec_from(3)) };
}

/// Takes over a descriptor that the program was started with, by its number. Those that the
/// program itself opens are closed on exec; one that is not came from outside.
///
/// # Errors
/// `EBADF`: not open, one of stdin, stdout and stderr, or the program's own.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 || closes_on_exec(number)? {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and nothing in this program has opened it, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn closes_on_exec(number: RawFd) -> io::Result<bool> {
    // SAFETY: asks for the flags of a number, whatever that is.
    let flags = check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    Ok(flags & libc::c_long::from(libc::FD_CLOEXEC) != 0)
}

/// Closes every descriptor from `first` on but those in `keep`
/// ([close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html), Linux 5.9), and
/// those before it that the program has opened itself at numbers which its caller left free. For a
/// forked process: owners of what is closed must never be dropped in it.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_all_but<'fd>(
    first: u32,
    keep: impl IntoIterator<Item = BorrowedFd<'fd>>,
) -> io::Result<()> {
    let keep = keep.into_iter().map(|fd| fd.as_raw_fd().cast_unsigned());
    let mut keep: Vec<u32> = keep.collect();
    keep.sort_unstable();
    close_own(first, &keep)?;
    let mut from = first;
    for fd in keep.into_iter().filter(|fd| *fd >= first) {
        if from < fd {
            close_range(from, fd - 1)?;
        }
        from = fd.saturating_add(1);
    }
    close_range(from, libc::c_uint::MAX)
}

/// Closes the program's own descriptors below `first`. It has been given the lowest free numbers: none
/// is behind more free ones than it has ever had open.
fn close_own(first: u32, keep: &[u32]) -> io::Result<()> {
    let mut free = 0;
    for number in 3..first {
        if free == MOST_OPEN {
            break;
        }
        match closes_on_exec(number.cast_signed()) {
            Ok(true) if keep.binary_search(&number).is_err() => close_range(number, number)?,
            Ok(_) => free = 0,
            Err(_) => free += 1,
        }
    }
    Ok(())
}

fn close_range(from: u32, to: u32) -> io::Result<()> {
    // SAFETY: by the contract of the only caller nothing uses these descriptors any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) })?;
    Ok(())
}
