//! The rootfs becomes a mount of its own, and nothing mounted from here on reaches the host.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};
use rustix::fs::{CWD, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

use super::detached;
use super::error::Reason;
use crate::init::root::Root;
use crate::sys::mount::{MountAttr, mount_setattr, mount_setattr_at};

/// `linux.rootfsPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub kind: u64,
    /// Whether it is for all mounts below as well.
    pub recursive: bool,
}

impl Propagation {
    /// Reads the spec's word; nothing or an empty string means that there is none.
    ///
    /// # Errors
    /// [`PrepareError::Propagation`] for a word that the spec does not have.
    pub fn parse(text: Option<&str>) -> Result<Option<Self>, PrepareError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let (kind, recursive) = match text {
            "shared" => (MS_SHARED, false),
            "rshared" => (MS_SHARED, true),
            "slave" => (MS_SLAVE, false),
            "rslave" => (MS_SLAVE, true),
            "private" => (MS_PRIVATE, false),
            "rprivate" => (MS_PRIVATE, true),
            "unbindable" => (MS_UNBINDABLE, false),
            "runbindable" => (MS_UNBINDABLE, true),
            other => return Err(PrepareError::Propagation(other.to_owned())),
        };
        Ok(Some(Self { kind, recursive }))
    }

    /// As the kernel takes it.
    pub(super) fn attr(self) -> MountAttr {
        MountAttr { propagation: self.kind, ..MountAttr::default() }
    }
}

/// Why the rootfs could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// An unknown word.
    #[error(
        "rootfsPropagation={0} is not supported; use shared, slave, private or unbindable, or one of them with r in front"
    )]
    Propagation(String),
    /// A system call failed.
    #[error("preparing rootfs {path:?}: cannot {doing}: {reason}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The rootfs.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
}

/// How many directories deep a rootfs may lie below its mount.
const DEEPEST: usize = 4096;

/// Cuts the mount namespace off from the host's and makes `rootfs` a mount in it.
///
/// All mounts become slaves of the host's (or what `propagation` says); the mount that holds
/// `rootfs` becomes private, because pivot_root(2) refuses a shared one and a bind mount below
/// it would show up on the host; `rootfs` is then bound onto itself with everything below it.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare_root(rootfs: &Path, propagation: Option<&str>) -> Result<Root, PrepareError> {
    let everything = Propagation::parse(propagation)?
        // `unbindable` would forbid the bind mounts that follow; it is set after pivot_root.
        .filter(|propagation| propagation.kind != MS_UNBINDABLE)
        .unwrap_or(Propagation { kind: MS_SLAVE, recursive: true });
    let failed = |doing| {
        move |reason: Reason| PrepareError::System { doing, path: rootfs.to_owned(), reason }
    };
    mount_setattr_at(CWD, c"/", &everything.attr(), everything.recursive)
        .map_err(|err| failed("change the propagation of the host's mounts")(err.into()))?;

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let below = open(rootfs, flags, Mode::empty()).map_err(|err| failed("open it")(err.into()))?;
    make_parent_private(&below).map_err(failed("make the mount that it is in private"))?;

    let tree = detached::clone_fd(below.as_fd(), true)
        .map_err(|err| failed("make a mount of it")(err.into()))?;
    detached::attach(tree.as_fd(), below.as_fd())
        .map_err(|err| failed("bind it onto itself")(err.into()))?;
    Ok(Root::from(tree))
}

/// Makes the mount private that `dir` is in: walks up to its root, which is the first directory
/// that mount_setattr(2) accepts.
fn make_parent_private(dir: &OwnedFd) -> Result<(), Reason> {
    let private = MountAttr { propagation: MS_PRIVATE, ..MountAttr::default() };
    let mut here = openat(dir, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..DEEPEST {
        match mount_setattr(&here, &private, false) {
            Err(err) if err.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
            done => return Ok(done?),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let up = openat(&here, c"..", flags, Mode::empty())?;
        let (child, parent) = (fstat(&here)?, fstat(&up)?);
        if (child.st_dev, child.st_ino) == (parent.st_dev, parent.st_ino) {
            // The root of a chroot that is not a mount.
            break;
        }
        here = up;
    }
    Err(Errno::INVAL.into())
}
