//! The container's root becomes `/`, and the host's is gone.

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use libc::MS_SLAVE;

use super::error::Reason;
use super::no_pivot;
use crate::init::root::Root;
use crate::sys::mount::{MountAttr, mount_setattr};

/// Why the root could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("changing the root directory: {doing}: {reason}{remedy}")]
pub struct PivotError {
    /// The call that failed.
    pub doing: &'static str,
    /// The kernel's answer.
    pub reason: Reason,
    /// What may help.
    pub remedy: &'static str,
}

impl PivotError {
    /// For `map_err`: a system call failed while `doing`.
    pub(super) fn at<E: Into<Reason>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |err| Self { doing, reason: err.into(), remedy: "" }
    }
}

/// Makes `root` the root directory of the process and its mount namespace and leaves the host's
/// tree behind, detached. The working directory is `/` afterwards.
///
/// With `no_pivot`, for a host that runs from a ramfs, `root` is moved over `/` instead; the
/// host's procfs and sysfs are taken away first.
///
/// # Errors
/// [`PivotError`].
pub fn pivot(root: &Root, no_pivot: bool) -> Result<(), PivotError> {
    if no_pivot {
        return no_pivot::move_root(root);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = open(c"/", flags, Mode::empty()).map_err(PivotError::at("open the old root"))?;
    fchdir(root).map_err(PivotError::at("enter the new root"))?;
    // The old root ends up on top of the new one; no directory has to be made for it.
    pivot_root(c".", c".").map_err(|err| PivotError {
        remedy: "; on a host that runs from an initramfs use --no-pivot",
        ..PivotError::at("pivot_root")(err)
    })?;
    // With a shared rootfsPropagation the unmount below would reach the host.
    let slave = MountAttr { propagation: MS_SLAVE, ..MountAttr::default() };
    mount_setattr(&old, &slave, true).map_err(PivotError::at("cut the old root off"))?;
    fchdir(&old).map_err(PivotError::at("enter the old root"))?;
    unmount(c".", UnmountFlags::DETACH).map_err(PivotError::at("unmount the old root"))?;
    chdir(c"/").map_err(PivotError::at("enter /"))
}
