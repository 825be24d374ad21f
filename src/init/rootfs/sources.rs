//! Sources of bind mounts that the host side opens before the clone.
//!
//! In a user namespace the container's root is an ordinary user of the host: it cannot get through
//! a directory that only root may enter, and it may not map the ids of a mount. So its sources
//! are opened by the runtime, as runc does, and are inherited as detached mounts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libc::{MOUNT_ATTR_IDMAP, MS_SLAVE};
use oci_spec::runtime::Mount;
use rustix::io::Errno;

use super::bind;
use super::mounts::{Cause, MountError};
use super::options::{IdMapping, MountOptions};
use crate::sys::mount::{MountAttr, mount_setattr};

/// What the host side does for the bind mounts of one container.
#[derive(Debug, Clone, Copy)]
pub struct SourcesWanted<'a> {
    /// The bundle directory: relative sources start here.
    pub bundle: &'a Path,
    /// Whether to open every source, not only those of id-mapped mounts.
    pub all: bool,
    /// Whether mounts of the host go on appearing in the container and the other way round
    /// (`linux.rootfsPropagation` is shared, and the mount namespace is of the same user).
    pub shared: bool,
}

/// Opens the sources of `mounts`; `None` where the container's init does so itself. `userns`
/// gives a user namespace with the id maps of an id-mapped mount.
///
/// # Errors
/// The first source that cannot be opened or mapped, or the first error of `userns`.
pub fn open_sources<E: From<MountError>>(
    mounts: &[Mount],
    wanted: &SourcesWanted<'_>,
    mut userns: impl FnMut(&IdMapping<'_>) -> Result<OwnedFd, E>,
) -> Result<Vec<Option<OwnedFd>>, E> {
    let mut sources = Vec::new();
    for (number, mount) in mounts.iter().enumerate() {
        let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
        let bind = options.bind || mount.typ().as_deref() == Some("bind");
        let ids = IdMapping::of(mount, &options);
        if !bind || options.remount || !(wanted.all || ids.is_some()) {
            continue;
        }
        let failed = |cause| E::from(MountError::new(mount, cause));
        let path = bind::source_path(mount, wanted.bundle).map_err(failed)?;
        let tree = bind::open(&path, options.recursive_bind).map_err(failed)?;
        if !wanted.shared {
            // What is cloned in the container's mount namespace would be a slave already.
            let attr = MountAttr { propagation: MS_SLAVE, ..MountAttr::default() };
            mount_setattr(&tree, &attr, true)
                .map_err(Cause::system("make the source a slave of the host's mounts"))
                .map_err(failed)?;
        }
        if let Some(ids) = ids {
            let namespace = userns(&ids)?;
            map_ids(tree.as_fd(), namespace.as_fd(), ids.recursive)
                .map_err(|err| Cause::IdMap { hint: hint(&err), path, reason: err.into() })
                .map_err(failed)?;
        }
        sources.resize_with(number, || None);
        sources.push(Some(tree));
    }
    Ok(sources)
}

fn map_ids(tree: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        userns_fd: u64::from(userns.as_raw_fd().cast_unsigned()),
        ..MountAttr::default()
    };
    mount_setattr(tree, &attr, recursive)
}

fn hint(err: &io::Error) -> &'static str {
    match err.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::INVAL) => " (the filesystem does not support id-mapped mounts on this kernel)",
        Some(Errno::PERM) => " (the source is id-mapped already, or its filesystem is not ours)",
        _ => "",
    }
}
