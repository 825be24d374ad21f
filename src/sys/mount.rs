//! [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::check;

/// The kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear; a changed atime mode needs `MOUNT_ATTR__ATIME` here.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// The user namespace for `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

/// Changes the attributes of the mount that `fd` refers to; with `recursive`, of all below it.
///
/// # Errors
/// The kernel's: `EINVAL` (not a mount root), `EPERM` (locked flag), `ENOSYS` before Linux 5.12.
pub fn mount_setattr(fd: impl AsFd, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    mount_setattr_at(fd.as_fd(), c"", attr, recursive)
}

/// As [`mount_setattr`], for the mount at `path` below `dir` (an empty path means `dir` itself).
///
/// # Errors
/// The kernel's.
pub fn mount_setattr_at(
    dir: BorrowedFd<'_>,
    path: &CStr,
    attr: &MountAttr,
    recursive: bool,
) -> io::Result<()> {
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `path` is NUL-terminated, `attr` is a live `struct mount_attr` of the given size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}
