//! Mounts of type `cgroup`: what a container sees of its control groups.
//!
//! With a cgroup namespace the kernel roots a fresh mount at the container's cgroup. Without one it
//! sees the host's cgroups on version 2, and its own directories on version 1, as under runc.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use super::detached::{self, Blueprint};
use super::error::Reason;
use super::mounts::{Cause, OneMount};
use super::{bind, target};
use crate::init::label;
use crate::sys::mount::{MountAttr, mount_setattr};

/// Where the container's cgroups are on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupView {
    /// The unified hierarchy.
    V2 {
        /// The directory of the container's cgroup.
        own: PathBuf,
        /// The directory of all cgroups.
        all: PathBuf,
    },
    /// The hierarchies of version 1.
    V1 {
        /// One per mounted hierarchy.
        hierarchies: Vec<Hierarchy>,
    },
}

/// One cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The name of its directory, as `cpu,cpuacct` or `systemd`.
    pub name: String,
    /// The directory of the container's cgroup in it.
    pub own: PathBuf,
    /// The parameters that mount it, as `cpu,cpuacct` or `none,name=systemd`.
    pub options: String,
    /// Names of links to the directory, as `cpu` and `cpuacct`.
    pub links: Vec<String>,
}

/// Mounts the container's cgroups at the destination of `one`.
pub fn mount(one: &mut OneMount<'_>) -> Result<OwnedFd, Cause> {
    let context = one.context;
    match context.cgroups {
        CgroupView::V2 { own, all } => unified(one, own, all),
        CgroupView::V1 { hierarchies } => hybrid(one, hierarchies),
    }
}

fn unified(one: &mut OneMount<'_>, own: &Path, all: &Path) -> Result<OwnedFd, Cause> {
    if !one.context.cgroupns {
        // Who shares the host's cgroup namespace wants to see the host's cgroups, as under runc.
        return bind::from_host(one, all, false);
    }
    let dest = one.spec.destination();
    let target = target::directory(one.root, dest, one.journal)?;
    target::check(one.root, dest, target.as_fd(), false)?;
    let plan = Blueprint {
        fstype: "cgroup2",
        source: one.spec.source().as_deref(),
        data: &one.options.data,
        attrs: one.options.attrs.set,
        superblock: one.options.superblock,
    };
    match plan.make(target.as_fd()) {
        Ok(tree) => one.attach(tree, &target),
        // The user namespace does not own the cgroup namespace.
        Err(reason) if reason.is(Errno::PERM) || reason.is(Errno::BUSY) => {
            match bind::from_host(one, own, false) {
                // An ordinary user's container without a cgroup of its own: nothing to show. The
                // host's, which may show through a bind of /sys, stays covered (CVE-2023-25809).
                Err(Cause::Source { reason, .. }) if reason.is(Errno::NOENT) => {
                    one.attach(nothing(one.context.label)?, &target)
                }
                done => done,
            }
        }
        Err(reason) => Err(Cause::System { doing: "make the filesystem", reason }),
    }
}

fn tmpfs_data(label: Option<&str>) -> Vec<String> {
    ["mode=755".to_owned()].into_iter().chain(label::option(label)).collect()
}

/// An empty filesystem that stays so.
fn nothing(label: Option<&str>) -> Result<OwnedFd, Cause> {
    let data = tmpfs_data(label);
    let safe = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    let empty = Blueprint {
        fstype: "tmpfs",
        source: Some("tmpfs".as_ref()),
        data: &data.iter().map(String::as_str).collect::<Vec<_>>(),
        attrs: safe | MOUNT_ATTR_RDONLY,
        superblock: 0,
    };
    empty.make_detached().map_err(|reason| Cause::System { doing: "make the tmpfs", reason })
}

/// A tmpfs with one directory per hierarchy, and links for the names of co-mounted controllers.
fn hybrid(one: &mut OneMount<'_>, hierarchies: &[Hierarchy]) -> Result<OwnedFd, Cause> {
    let dest = one.spec.destination();
    let target = target::directory(one.root, dest, one.journal)?;
    target::check(one.root, dest, target.as_fd(), false)?;

    let safe = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    let readonly = one.options.attrs.set & MOUNT_ATTR_RDONLY;
    let data = tmpfs_data(one.context.label);
    let tmpfs = Blueprint {
        fstype: "tmpfs",
        source: Some("tmpfs".as_ref()),
        data: &data.iter().map(String::as_str).collect::<Vec<_>>(),
        attrs: safe,
        superblock: 0,
    };
    let tmpfs = tmpfs.make_detached();
    let tmpfs = tmpfs.map_err(|reason| Cause::System { doing: "make the tmpfs", reason })?;
    // Nobody has seen the tmpfs yet, so plain names in it are safe.
    let filled = hierarchies.iter().try_for_each(|hierarchy| -> Result<(), Reason> {
        mkdirat(&tmpfs, &*hierarchy.name, Mode::from_raw_mode(0o755))?;
        for link in &hierarchy.links {
            match symlinkat(&*hierarchy.name, &tmpfs, &**link) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    });
    filled.map_err(Cause::system("fill the tmpfs"))?;
    let tmpfs = one.attach(tmpfs, &target)?;

    for hierarchy in hierarchies {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(&tmpfs, &*hierarchy.name, flags, Mode::empty());
        let place = place.map_err(Cause::system("open a hierarchy's directory"))?;
        match hierarchy_tree(one, hierarchy, safe | readonly) {
            // As above.
            Err(Cause::Source { reason, .. }) if reason.is(Errno::NOENT) => {}
            tree => drop(one.attach(tree?, &place)?),
        }
    }
    if readonly != 0 {
        let attr = MountAttr { set: readonly, ..MountAttr::default() };
        mount_setattr(&tmpfs, &attr, false).map_err(Cause::system("make the tmpfs read-only"))?;
    }
    Ok(tmpfs)
}

fn hierarchy_tree(one: &OneMount<'_>, it: &Hierarchy, attrs: u64) -> Result<OwnedFd, Cause> {
    if one.context.cgroupns {
        let source = if it.name == "systemd" { "systemd" } else { "cgroup" };
        let plan = Blueprint {
            fstype: "cgroup",
            source: Some(source.as_ref()),
            data: &it.options.split(',').filter(|item| !item.is_empty()).collect::<Vec<_>>(),
            attrs,
            superblock: 0,
        };
        match plan.make_detached() {
            Err(reason) if reason.is(Errno::PERM) || reason.is(Errno::BUSY) => {}
            Err(reason) => {
                return Err(Cause::System { doing: "mount a hierarchy", reason });
            }
            Ok(tree) => return Ok(tree),
        }
    }
    let tree = detached::clone_path(&it.own, true);
    let tree = tree.map_err(|err| Cause::Source { path: it.own.clone(), reason: err.into() })?;
    let attr = MountAttr { set: attrs, ..MountAttr::default() };
    mount_setattr(&tree, &attr, true).map_err(Cause::system("set the attributes"))?;
    Ok(tree)
}
