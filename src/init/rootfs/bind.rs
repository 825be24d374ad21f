//! Bind mounts: a part of the host's tree, shown in the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
};
use oci_spec::runtime::Mount;
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::detached;
use super::error::Reason;
use super::mounts::{Cause, OneMount};
use super::options::Attrs;
use super::target;
use crate::sys::mount::{MountAttr, mount_setattr};

/// The attributes that a bind mount has only if its options ask for them.
const PLAIN: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// Mounts a bind mount of the spec.
pub fn mount(one: &mut OneMount<'_>) -> Result<OwnedFd, Cause> {
    let source = source_path(one.spec, one.context.bundle)?;
    let opened = one.source.map(OwnedFd::try_clone).transpose();
    match opened.map_err(Cause::system("keep the source open"))? {
        Some(tree) => place(one, tree, &source),
        None => from_host(one, &source, one.options.recursive_bind),
    }
}

/// Where on the host the source of a bind mount is.
pub fn source_path(mount: &Mount, bundle: &Path) -> Result<PathBuf, Cause> {
    match mount.source() {
        Some(source) if !source.as_os_str().is_empty() => Ok(bundle.join(source)),
        _ => Err(Cause::NoSource),
    }
}

/// Shows the host's `source` at the destination of `one`, with the attributes of `one`.
pub fn from_host(one: &mut OneMount<'_>, source: &Path, recursive: bool) -> Result<OwnedFd, Cause> {
    let tree = open(source, recursive)?;
    place(one, tree, source)
}

/// Shows the host's `source` with everything that is mounted below it at the destination of `one`:
/// all of that is as read-only, and so on, as `one`, which would have nothing below it.
pub fn all_from_host(one: &mut OneMount<'_>, source: &Path) -> Result<OwnedFd, Cause> {
    let tree = open(source, true)?;
    let attr = MountAttr { set: one.options.attrs.set & PLAIN, ..MountAttr::default() };
    mount_setattr(&tree, &attr, true).map_err(Cause::system("set the attributes"))?;
    place(one, tree, source)
}

/// A detached copy of what is mounted at the host's `source`.
pub fn open(source: &Path, recursive: bool) -> Result<OwnedFd, Cause> {
    detached::clone_path(source, recursive).map_err(|err| unopened(source, err.into()))
}

fn unopened(source: &Path, reason: Reason) -> Cause {
    Cause::Source { path: source.to_owned(), reason }
}

/// Puts `tree`, which came from `source`, at the destination of `one`, with the attributes of
/// `one`.
fn place(one: &mut OneMount<'_>, tree: OwnedFd, source: &Path) -> Result<OwnedFd, Cause> {
    let stat = fstat(&tree).map_err(|err| unopened(source, err.into()))?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;

    let dest = one.spec.destination();
    let target = if directory {
        target::directory(one.root, dest, one.journal)?
    } else {
        target::file(one.root, dest, one.journal)?
    };
    // Only the whole of a procfs may stand in for /proc, not a directory of it.
    let procfs = stat.st_ino == PROC_ROOT_INO && target::is_procfs(tree.as_fd())?;
    target::check(one.root, dest, target.as_fd(), procfs)?;

    set_exactly(tree.as_fd(), one.options.attrs)?;
    one.attach(tree, &target)
}

/// The inode number of the root of every procfs (include/linux/proc_ns.h).
pub const PROC_ROOT_INO: u64 = 1;

/// Gives the mount just the attributes in `attrs`; without any, it keeps those of its source.
///
/// In a user namespace some of the source's attributes are locked. Then those that nobody asked
/// to change stay as they are.
pub fn set_exactly(mount: BorrowedFd<'_>, attrs: Attrs) -> Result<(), Cause> {
    if attrs.is_empty() {
        return Ok(());
    }
    let exact = MountAttr {
        set: attrs.set,
        clear: attrs.clear | (PLAIN & !attrs.set),
        ..MountAttr::default()
    };
    let Err(err) = mount_setattr(mount, &exact, false) else {
        return Ok(());
    };
    let doing = "set the attributes";
    if err.raw_os_error() != Some(Errno::PERM.raw_os_error()) {
        return Err(Cause::system(doing)(err));
    }
    let asked = MountAttr { clear: attrs.clear, ..exact };
    mount_setattr(mount, &asked, false).map_err(|err| {
        if err.raw_os_error() == Some(Errno::PERM.raw_os_error()) && attrs.clear != 0 {
            Cause::Locked { option: option_that_clears(attrs.clear) }
        } else {
            Cause::system(doing)(err)
        }
    })
}

/// The mount options that may have put `clear` there.
fn option_that_clears(clear: u64) -> &'static str {
    if clear & MOUNT_ATTR_RDONLY != 0 {
        "rw"
    } else if clear & MOUNT_ATTR_NOSUID != 0 {
        "suid"
    } else if clear & MOUNT_ATTR_NODEV != 0 {
        "dev"
    } else if clear & MOUNT_ATTR_NOEXEC != 0 {
        "exec"
    } else if clear & MOUNT_ATTR__ATIME != 0 {
        "the access time option"
    } else {
        "the clearing option"
    }
}
