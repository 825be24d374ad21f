//! Mount points on a rootfs that is read-only by itself (squashfs, EROFS, a read-only bind).
//!
//! The directory that lacks one gets an [overlay](https://docs.kernel.org/filesystems/overlayfs.html)
//! over it: the image's directory below, a tmpfs above. It is made read-only when the mount
//! points are there, so the container sees what it would expect, a read-only directory.
//! `root.readonly` of the spec is not meant: that flag is set later, and until then it is writable.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Gid, Mode, StatVfsMountFlags, StatxFlags, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::error::ApplyError;
use super::files::attach_to;
use super::generated;
use crate::init::label;
use crate::init::root::{Root, Whereabouts};
use crate::sys::mount::{MountAttr, mount_setattr};

/// A directory that was given a writable layer.
#[derive(Debug)]
pub(super) struct Cover {
    overlay: OwnedFd,
    path: PathBuf,
}

impl Cover {
    /// Makes it read-only, as the directory below is.
    pub fn seal(&self) -> Result<(), ApplyError> {
        let attr = MountAttr {
            set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
            ..MountAttr::default()
        };
        mount_setattr(&self.overlay, &attr, false)
            .map_err(|reason| ApplyError::Cover { path: self.path.clone(), reason })
    }
}

/// Covers the nearest existing directory above `path`, with this SELinux label.
///
/// # Errors
/// [`ApplyError::ReadOnly`] when that is the root itself, which cannot be covered;
/// [`ApplyError::Cover`].
pub(super) fn cover_parent(
    root: &Root,
    path: &Path,
    label: Option<&str>,
) -> Result<Cover, ApplyError> {
    for dir in path.ancestors().skip(1).filter(|dir| dir.parent().is_some()) {
        let failed = |reason| ApplyError::Cover { path: dir.to_owned(), reason };
        if let Some(lower) = root.find(dir).map_err(failed)? {
            if root.whereabouts(&lower).map_err(failed)? == Whereabouts::Root {
                break;
            }
            let overlay = cover(&lower, label).map_err(failed)?;
            return Ok(Cover { overlay, path: dir.to_owned() });
        }
    }
    Err(ApplyError::ReadOnly { path: path.to_owned() })
}

fn cover(lower: &OwnedFd, label: Option<&str>) -> io::Result<OwnedFd> {
    if has_mounts_below(lower)? {
        return Err(io::Error::other("other mounts are in it"));
    }
    let stat = fs::fstat(lower)?;
    let flags = mount_flags(lower)?;
    let tmpfs = generated::tmpfs(label)?;
    // The overlay's top directory has the upper one's owner and mode.
    fs::mkdirat(&tmpfs, "upper", Mode::from_raw_mode(0o700))?;
    fs::mkdirat(&tmpfs, "work", Mode::from_raw_mode(0o700))?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fs::chownat(&tmpfs, "upper", Some(owner), Some(group), AtFlags::empty())?;
    fs::chmodat(&tmpfs, "upper", Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    // An upper layer must be in the mount namespace, so the tmpfs is put below the overlay.
    attach_to(&tmpfs, lower)?;

    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let by_fd = |fd: &OwnedFd, rest: &str| format!("/proc/self/fd/{}{rest}", fd.as_raw_fd());
    fsconfig_set_string(&context, "lowerdir", by_fd(lower, ""))?;
    fsconfig_set_string(&context, "upperdir", by_fd(&tmpfs, "/upper"))?;
    fsconfig_set_string(&context, "workdir", by_fd(&tmpfs, "/work"))?;
    if let Some((name, label)) = label::parameter(label) {
        fsconfig_set_string(&context, name, label)?;
    }
    fsconfig_create(&context)?;
    let overlay = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    attach_to(&overlay, &tmpfs)?;
    Ok(overlay)
}

/// The restrictions of the mount below, which must hold for what covers it.
fn mount_flags(dir: &OwnedFd) -> io::Result<MountAttrFlags> {
    let has = fs::fstatvfs(dir)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (StatVfsMountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (StatVfsMountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ];
    let mut flags = MountAttrFlags::empty();
    for (flag, attribute) in pairs {
        flags.set(attribute, has.contains(flag));
    }
    Ok(flags)
}

/// Whether something is mounted inside `dir`: a cover would hide it.
fn has_mounts_below(dir: &OwnedFd) -> io::Result<bool> {
    let id = fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id.to_string();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
    let mut prefix = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => prefix.extend(format!("\\{byte:03o}").into_bytes()),
            _ => prefix.push(*byte),
        }
    }
    prefix.push(b'/');
    // mountinfo: id, parent's id, device, root, mount point, …
    Ok(std::fs::read("/proc/thread-self/mountinfo")?.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        fields.nth(1) == Some(id.as_bytes())
            && fields.nth(2).is_some_and(|point| point.starts_with(&prefix))
    }))
}
