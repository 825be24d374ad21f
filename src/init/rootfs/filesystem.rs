//! Mounts of new filesystems: proc, sysfs, tmpfs, devpts, mqueue, overlay and whatever else the
//! kernel knows.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libc::{MOUNT_ATTR_RDONLY, MS_RDONLY, MS_REMOUNT};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount as mount2};
use rustix::process::fchdir;

use super::detached::{Blueprint, classic_flags};
use super::mounts::{Cause, OneMount};
use super::{bind, copy_up, target};
use crate::init::label;
use crate::sys;

/// Filesystems whose superblock may be shared with other mounts or is the container's own: `ro`
/// is a matter of the mount there. Everywhere else (a read-only disk) the superblock has to know.
const READONLY_BY_MOUNT: [&str; 6] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2"];

/// Filesystems that take no SELinux `context=` from the runtime.
const UNLABELLED: [&str; 3] = ["proc", "sysfs", "mqueue"];

/// Mounts a new filesystem of the type `fstype`.
pub fn mount(one: &mut OneMount<'_>, fstype: &str) -> Result<OwnedFd, Cause> {
    let dest = one.spec.destination().as_path();
    let special = matches!(fstype, "proc" | "sysfs");
    let mut mode = None;
    let target = if special {
        target::ordinary_directory(one.root, dest, fstype, one.journal)?
    } else {
        let doing = "open the mount point";
        match one.root.find(dest).map_err(Cause::system(doing))? {
            Some(found) => {
                // A tmpfs has the mode of the directory that it covers unless told otherwise.
                if fstype == "tmpfs" {
                    let stat = fstat(&found).map_err(Cause::system(doing))?;
                    mode = Some(format!("mode={:04o}", stat.st_mode & 0o7777));
                }
                found
            }
            None => target::directory(one.root, dest, one.journal)?,
        }
    };
    target::check(one.root, dest, target.as_fd(), fstype == "proc")?;

    let context = label::option(one.context.label).filter(|_| !UNLABELLED.contains(&fstype));
    let mut data: Vec<&str> = mode.iter().map(String::as_str).collect();
    data.extend(&one.options.data);
    data.extend(context.as_deref());

    let attrs = one.options.attrs.set;
    let mut superblock = one.options.superblock;
    if attrs & MOUNT_ATTR_RDONLY != 0 && !READONLY_BY_MOUNT.contains(&fstype) {
        superblock |= MS_RDONLY;
    }
    let source = one.spec.source().as_deref().filter(|source| !source.as_os_str().is_empty());
    let plan = Blueprint { fstype, source, data: &data, attrs, superblock };
    let tree = match plan.make(target.as_fd()) {
        Ok(tree) => tree,
        // A user namespace, the container's or the runtime's, may mount sysfs only together with a
        // network namespace of its own. Elsewhere the host's, with all that is mounted below it, is
        // no substitute.
        Err(reason) if fstype == "sysfs" && reason.is(Errno::PERM) && in_user_namespace(one) => {
            return bind::all_from_host(one, Path::new("/sys"));
        }
        Err(reason) => {
            return Err(Cause::System { doing: "make the filesystem", reason });
        }
    };
    if one.options.copy_up && fstype == "tmpfs" {
        copy_up::copy(target.as_fd(), tree.as_fd())?;
    }
    one.attach(tree, &target)
}

fn in_user_namespace(one: &OneMount<'_>) -> bool {
    one.context.userns || sys::process::in_user_namespace().unwrap_or(false)
}

/// mount(2) with `MS_REMOUNT`: new parameters for the filesystem mounted at `mounted`.
pub fn reconfigure(one: &OneMount<'_>, mounted: BorrowedFd<'_>) -> Result<(), Cause> {
    let doing = "reconfigure the filesystem";
    let data = std::ffi::CString::new(one.options.data.join(","));
    let data = data.map_err(|_| Errno::INVAL).map_err(Cause::system(doing))?;
    let flags = MS_REMOUNT | one.options.superblock | classic_flags(one.options.attrs.set);
    let flags = MountFlags::from_bits_retain(u32::try_from(flags).unwrap_or(0));
    let remounted = (|| {
        let before = super::detached::working_directory()?;
        fchdir(mounted)?;
        let done = mount2(c"", c".", c"", flags, data.as_c_str());
        fchdir(&before)?;
        done
    })();
    remounted.map_err(Cause::system(doing))
}
