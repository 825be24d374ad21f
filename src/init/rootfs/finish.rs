//! What closes the container's filesystem once the host's root is gone.

use std::path::PathBuf;

use libc::{MOUNT_ATTR_RDONLY, MS_PRIVATE};

use super::error::Reason;
use super::mounts::DeferredReadonly;
use super::prepare::{PrepareError, Propagation};
use super::{masks, stdio};
use crate::init::root::Root;
use crate::sys::mount::{MountAttr, mount_setattr};

/// The parts of the spec that [`finish`] carries out.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// `linux.rootfsPropagation`.
    pub propagation: Option<&'a str>,
    /// What [`mount_all`](super::mount_all) left writable.
    pub deferred: &'a [DeferredReadonly],
    /// `root.readonly`.
    pub readonly_root: bool,
    /// `linux.readonlyPaths`.
    pub readonly_paths: &'a [String],
    /// `linux.maskedPaths`.
    pub masked_paths: &'a [String],
    /// `linux.mountLabel`.
    pub label: Option<&'a str>,
}

/// Why the filesystem could not be closed.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// An unknown `rootfsPropagation`.
    #[error(transparent)]
    Propagation(#[from] PrepareError),
    /// The propagation of the root could not be set.
    #[error("cannot set rootfsPropagation={word}: {reason}")]
    RootPropagation {
        /// The word in the spec.
        word: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The container's /dev/null cannot be used for stdio.
    #[error("cannot reopen /dev/null inside the container: {reason}")]
    DevNull {
        /// The kernel's answer, or that it is another device.
        reason: Reason,
    },
    /// A mount could not be made read-only.
    #[error("cannot make {path:?} read-only: {reason}")]
    Readonly {
        /// The path in the container.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
    /// What was mounted is not where it belongs.
    #[error(
        "{place:?} is not what was mounted there: a link of the image has led another mount onto \
         it, or somebody has renamed it meanwhile; give the container a rootfs that nobody else \
         changes, and mounts whose destinations are no links"
    )]
    Moved {
        /// Which.
        place: &'static str,
    },
    /// It could not be looked for.
    #[error("cannot look at what is mounted on /proc, /sys and /dev: {reason}")]
    Unseen {
        /// The kernel's answer.
        reason: Reason,
    },
    /// A path could not be masked.
    #[error("cannot mask path {path:?}: {reason}")]
    Mask {
        /// The path in the container.
        path: PathBuf,
        /// The kernel's answer; `no such device`: the container's /dev/null is something else.
        reason: Reason,
    },
}

/// Sets the propagation of the root, brings stdio into the container, and makes read-only or
/// hides what the spec says. Runs after [`pivot`](super::pivot()), with the same `root`.
///
/// # Errors
/// [`FinishError`].
pub fn finish(root: &Root, spec: &Finish<'_>) -> Result<(), FinishError> {
    if let Some(propagation) = Propagation::parse(spec.propagation)?
        // The root has been private since before it was mounted.
        && propagation.kind != MS_PRIVATE
    {
        mount_setattr(root, &propagation.attr(), propagation.recursive).map_err(|err| {
            let word = spec.propagation.unwrap_or_default().to_owned();
            FinishError::RootPropagation { word, reason: err.into() }
        })?;
    }
    stdio::reopen_null(root).map_err(|err| FinishError::DevNull { reason: err.into() })?;

    let readonly = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    for DeferredReadonly { dest, mount } in spec.deferred {
        mount_setattr(mount, &readonly, false)
            .map_err(|err| FinishError::Readonly { path: dest.clone(), reason: err.into() })?;
    }
    if spec.readonly_root {
        mount_setattr(root, &readonly, false)
            .map_err(|err| FinishError::Readonly { path: "/".into(), reason: err.into() })?;
    }
    masks::readonly(root, spec.readonly_paths)?;
    masks::mask(root, spec.masked_paths, spec.label)?;
    match root.find_moved() {
        Ok(None) => Ok(()),
        Ok(Some(place)) => Err(FinishError::Moved { place }),
        Err(err) => Err(FinishError::Unseen { reason: err.into() }),
    }
}
