//! A container without a mount namespace: its mounts are made in the runtime's, below a mount of
//! its own on its rootfs, and its root is changed with chroot(2).
//!
//! The mount on the rootfs carries all others, so taking it away again takes everything away. It
//! is known by its id, which is written down before it is attached: an engine may have mounted
//! the rootfs itself, and that mount stays.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use libc::MS_PRIVATE;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir};

use super::detached;
use super::error::Reason;
use super::pivot::PivotError;
use crate::init::root::{Root, mount_id};
use crate::sys::mount::{MountAttr, mount_setattr};

/// Why the mount of such a container could not be made or taken away.
#[derive(Debug, thiserror::Error)]
#[error("rootfs {path:?} without a mount namespace: cannot {doing}: {reason}")]
pub struct SharedRootError {
    /// What was being done.
    pub doing: &'static str,
    /// The rootfs.
    pub path: std::path::PathBuf,
    /// The kernel's answer.
    pub reason: Reason,
}

fn failed<E: Into<Reason>>(path: &Path, doing: &'static str) -> impl FnOnce(E) -> SharedRootError {
    let path = path.to_owned();
    move |reason| SharedRootError { doing, path, reason: reason.into() }
}

/// A rootfs bound onto itself, not attached yet.
#[derive(Debug)]
pub struct SharedRoot {
    below: OwnedFd,
    tree: OwnedFd,
    id: u64,
}

impl SharedRoot {
    /// Makes the mount of `rootfs`, private so that nothing in it appears elsewhere.
    ///
    /// # Errors
    /// [`SharedRootError`].
    pub fn prepare(rootfs: &Path) -> Result<Self, SharedRootError> {
        let below = open_directory(rootfs).map_err(failed(rootfs, "open it"))?;
        let tree = detached::clone_fd(below.as_fd(), true)
            .map_err(failed(rootfs, "make a mount of it"))?;
        let private = MountAttr { propagation: MS_PRIVATE, ..MountAttr::default() };
        mount_setattr(&tree, &private, true).map_err(failed(rootfs, "make it private"))?;
        let id = mount_id(&tree).map_err(failed(rootfs, "ask for its mount id"))?;
        Ok(Self { below, tree, id })
    }

    /// The mount's id, for [`unmount_shared`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Attaches it to the rootfs.
    ///
    /// # Errors
    /// [`SharedRootError`].
    pub fn attach(self, rootfs: &Path) -> Result<Root, SharedRootError> {
        detached::attach(self.tree.as_fd(), self.below.as_fd())
            .map_err(failed(rootfs, "bind it onto itself"))?;
        Ok(Root::from(self.tree))
    }
}

/// Makes `root` the root directory of the process; the working directory is `/` afterwards.
///
/// # Errors
/// [`PivotError`].
pub fn change_root_to(root: impl AsFd) -> Result<(), PivotError> {
    fchdir(root).map_err(PivotError::at("enter the new root"))?;
    chroot(c".").map_err(PivotError::at("chroot"))?;
    chdir(c"/").map_err(PivotError::at("enter /"))
}

/// Takes the mount with this id, and all in it, off `rootfs`. One that is gone is no failure.
///
/// # Errors
/// [`SharedRootError`].
pub fn unmount_shared(rootfs: &Path, id: u64) -> Result<(), SharedRootError> {
    let Ok(top) = open_directory(rootfs) else { return Ok(()) };
    if mount_id(&top).map_err(failed(rootfs, "ask for its mount id"))? != id {
        return Ok(());
    }
    drop(top);
    unmount(rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(failed(rootfs, "unmount it"))
}

fn open_directory(path: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
