//! Files with generated content, on a tmpfs that no path leads to.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
};

use super::files::attach_to;
use crate::init::label;
use crate::init::root::Root;
use crate::sys::mount::{MountAttr, mount_setattr};

/// Makes generated files, on one tmpfs for all of them where the kernel allows it.
#[derive(Debug, Default)]
pub(super) struct Generated {
    /// The SELinux label of the files.
    label: Option<String>,
    tmpfs: Option<OwnedFd>,
    count: u32,
    /// Do as on a kernel that cannot copy a detached mount.
    #[cfg(test)]
    pub(super) as_before_6_15: bool,
}

impl Generated {
    /// With this label (`linux.mountLabel`).
    pub fn labelled(label: Option<&str>) -> Self {
        Self { label: label.map(str::to_owned), ..Self::default() }
    }

    /// A detached, read-only mount of a file with this content (mode 0444).
    pub fn file(&mut self, content: &[u8], root: &Root) -> io::Result<OwnedFd> {
        self.make(root, |tmpfs, name| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let fd = fs::openat(tmpfs, name, flags, Mode::empty())?;
            // Not left to the umask.
            fs::fchmod(&fd, Mode::from_raw_mode(0o444))?;
            std::fs::File::from(fd).write_all(content)
        })
    }

    /// A detached, read-only mount of a directory that holds empty directories of these names.
    pub fn directory(&mut self, names: &[String], root: &Root) -> io::Result<OwnedFd> {
        self.make(root, |tmpfs, name| {
            let mode = Mode::from_raw_mode(0o755);
            fs::mkdirat(tmpfs, name, mode)?;
            for child in names {
                fs::mkdirat(tmpfs, format!("{name}/{child}"), mode)?;
            }
            Ok(())
        })
    }

    fn make(
        &mut self,
        root: &Root,
        create: impl FnOnce(&OwnedFd, &str) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        let tmpfs = match self.tmpfs.take() {
            Some(tmpfs) => tmpfs,
            None => tmpfs(self.label.as_deref())?,
        };
        self.count += 1;
        let name = self.count.to_string();
        create(&tmpfs, &name)?;
        let mount = match self.clone_mount(&tmpfs, &name) {
            // Before Linux 6.15 only a mount that is attached can be copied.
            Err(Errno::INVAL) => clone_attached(&tmpfs, &name, root)?,
            cloned => {
                self.tmpfs = Some(tmpfs);
                cloned?
            }
        };
        let attr = MountAttr {
            set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
            propagation: libc::MS_PRIVATE,
            ..MountAttr::default()
        };
        mount_setattr(&mount, &attr, false)?;
        Ok(mount)
    }

    fn clone_mount(&self, tmpfs: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        #[cfg(test)]
        if self.as_before_6_15 {
            return Err(Errno::INVAL);
        }
        clone_mount(tmpfs, name)
    }
}

/// A detached tmpfs with this SELinux label: nosuid, nodev, noexec, of at most 16 MiB.
pub(super) fn tmpfs(label: Option<&str>) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let parameters = [("mode", "0755"), ("size", "16m")];
    for (name, value) in parameters.into_iter().chain(label::parameter(label)) {
        fsconfig_set_string(&context, name, value)?;
    }
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

fn clone_mount(tmpfs: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(tmpfs, name, flags)
}

/// As [`clone_mount`], with the tmpfs attached over the container's root for that moment; it is
/// used up by that. Nobody sees it: everything here goes by descriptors from below it, and no
/// process of the container runs yet.
fn clone_attached(tmpfs: &OwnedFd, name: &str, root: &Root) -> io::Result<OwnedFd> {
    attach_to(tmpfs, &root.resolve(Path::new("/"))?)?;
    let mount = clone_mount(tmpfs, name);
    unmount(format!("/proc/self/fd/{}", tmpfs.as_raw_fd()), UnmountFlags::DETACH)?;
    Ok(mount?)
}
