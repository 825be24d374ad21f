//! `--no-pivot`: the new root is moved over the old one, which stays below it.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use libc::MS_SLAVE;
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, chroot, fchdir};

use super::detached::{self, Blueprint};
use super::error::Reason;
use super::pivot::PivotError;
use crate::init::root::Root;
use crate::mountinfo::{self, Mount};
use crate::sys::mount::{MountAttr, mount_setattr};

/// Moves `root` over `/` and makes it the root directory.
pub fn move_root(root: &Root) -> Result<(), PivotError> {
    let own = std::fs::read_link(format!("/proc/thread-self/fd/{}", root.as_fd().as_raw_fd()))
        .map_err(PivotError::at("find the path of the new root"))?;
    let mounts = std::fs::read("/proc/thread-self/mountinfo")
        .map_err(PivotError::at("read /proc/thread-self/mountinfo"))?;
    // Whoever has the host's whole procfs or sysfs in reach, even below the new root, may mount
    // a new one without the masks. Unmount them in the order opposite to that of mounting.
    for mount in full_proc_and_sys(&mounts, &own).iter().rev() {
        take_away(mount).map_err(PivotError::at("take the host's /proc and /sys away"))?;
    }
    fchdir(root).map_err(PivotError::at("enter the new root"))?;
    move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(PivotError::at("move the new root over /"))?;
    chroot(c".").map_err(PivotError::at("chroot"))?;
    chdir(c"/").map_err(PivotError::at("enter /"))
}

/// Unmounts what is mounted at `path`, or covers it where that is forbidden.
fn take_away(path: &Path) -> Result<(), Reason> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mounted = match open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        // Went away together with a mount above it, or a file is mounted there.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(err) => return Err(err.into()),
    };
    let slave = MountAttr { propagation: MS_SLAVE, ..MountAttr::default() };
    mount_setattr(&mounted, &slave, true)?;
    match unmount(path, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::PERM) => {
            let empty =
                Blueprint { fstype: "tmpfs", source: None, data: &[], attrs: 0, superblock: 0 };
            let cover = empty.make_detached()?;
            Ok(detached::attach(cover.as_fd(), mounted.as_fd())?)
        }
        Err(err) => Err(err.into()),
    }
}

/// The mount points outside `own` of whole procfs and sysfs mounts.
fn full_proc_and_sys(text: &[u8], own: &Path) -> Vec<PathBuf> {
    let is_full =
        |mount: &Mount| mount.root == Path::new("/") && matches!(&*mount.fstype, "proc" | "sysfs");
    let full = mountinfo::parse(text).into_iter().filter(is_full).map(|mount| mount.point);
    full.filter(|point| !point.starts_with(own)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_proc_and_sys_mounts_outside_the_rootfs_are_found() {
        let text = b"22 1 0:21 / /proc rw shared:5 - proc proc rw\n\
            23 1 0:22 / /a\\040b rw - sysfs sysfs rw\n\
            24 1 0:21 /sys /ro ro - proc proc rw\n\
            25 1 0:21 / /c/rootfs/proc rw - proc proc rw\n\
            26 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n";
        let found = full_proc_and_sys(text, Path::new("/c/rootfs"));
        assert_eq!(found, [Path::new("/proc"), Path::new("/a b")]);
    }
}
