//! The mounts of a container that CRIU is about to restore, made where CRIU can find them.
//!
//! CRIU makes the container's mount namespace itself, but for the mounts that came from outside:
//! those it binds from a path. So the container's whole root is built once more, by the steps
//! that built it when it was created, in a mount namespace that only CRIU has; and each mount in
//! it gets a plain path of its own. Nothing of that is seen by anybody else, and it all goes away
//! with CRIU. The mount points that had to be created in the rootfs stay for the container, and
//! are in its journal.
//!
//! CRIU follows symbolic links on the way to a source. That is why it is not given paths inside
//! the root: an image decides what they are.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Spec;
use rustix::fs::{FileType, fstat};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::gpu;
use super::journal::Journal;
use super::root::Root;
use super::rootfs::{self, CgroupView, Devices, MountContext};
use crate::gpu::plan::Plan;
use crate::mountinfo;

/// What the root is built from.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The spec, with the plan's devices in it.
    pub spec: &'a Spec,
    /// The bundle, where relative sources of mounts start.
    pub bundle: &'a Path,
    /// The sources that the runtime has opened: see `rootfs::open_sources`.
    pub sources: &'a [Option<OwnedFd>],
    /// The rootfs on the host, absolute and without links.
    pub rootfs: &'a Path,
    /// What the GPU request leads to.
    pub plan: Option<&'a Plan>,
    /// The container's cgroups, for mounts of type `cgroup`.
    pub cgroups: &'a CgroupView,
    /// A directory of ours, which is covered in the private mount namespace.
    pub place: &'a Path,
}

/// Where things are, for CRIU.
#[derive(Debug)]
pub struct Staged {
    /// The container's root without any mounts in it: a mount point itself, as CRIU demands.
    pub root: PathBuf,
    /// Each mount of the container: where it is in the container, and a path to bind it from.
    pub mounts: Vec<(PathBuf, PathBuf)>,
}

impl Stage<'_> {
    /// Builds it. The caller must have a mount namespace of its own.
    ///
    /// # Errors
    /// What `create` would have failed with; the mount namespace is of no use then.
    pub fn build(&self, journal: &mut Journal) -> Result<Staged> {
        let linux = self.spec.linux().as_ref();
        let mut root = rootfs::prepare_root(self.rootfs, None)?;
        let bare = open_tree(root.as_fd(), "", clone_flags())
            .context("cannot make a mount of the rootfs for criu")?;
        let context = MountContext {
            bundle: self.bundle,
            label: linux.and_then(|linux| linux.mount_label().as_deref()),
            cgroups: self.cgroups,
            // These mounts are bound by a process outside the container's namespaces.
            userns: false,
            cgroupns: false,
            sources: self.sources,
        };
        let mounts = self.spec.mounts().as_deref().unwrap_or_default();
        let mounted = rootfs::mount_all(&mut root, mounts, &context, journal)?;
        if rootfs::needs_dev(mounts) {
            let devices = Devices {
                list: linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default(),
                planned: self.plan.map_or(&[][..], |plan| &plan.devices),
                bind: false,
                filesystem: mounted.dev,
            };
            rootfs::create_devices(&root, devices, journal)?;
        }
        if let Some(plan) = self.plan {
            gpu::apply(plan, &root, context.label, journal)?;
        }
        self.lay_out(&root, bare)
    }

    /// Gives everything its path, in a tmpfs over our directory.
    fn lay_out(&self, root: &Root, bare: impl AsFd) -> Result<Staged> {
        let place = self.place;
        let failed = || format!("cannot lay mounts out in {}", place.display());
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("gpurun", place, "tmpfs", flags, c"mode=0700").with_context(failed)?;
        let bare_root = place.join("root");
        put(bare.as_fd(), &bare_root, true).with_context(failed)?;
        let mut mounts: Vec<(PathBuf, PathBuf)> = Vec::new();
        for found in mountinfo::own().context("cannot read our own mounts")? {
            let Ok(inside) = found.point.strip_prefix(self.rootfs) else { continue };
            if inside.as_os_str().is_empty() {
                continue;
            }
            let inside = Path::new("/").join(inside);
            if mounts.iter().any(|(known, _)| *known == inside) {
                // The one on top is what is seen.
                continue;
            }
            let source = root.resolve(&inside).with_context(failed)?;
            self.check_same(&source, &inside)?;
            let directory =
                FileType::from_raw_mode(fstat(&source).with_context(failed)?.st_mode).is_dir();
            let tree = match open_tree(source.as_fd(), "", clone_flags()) {
                // Unbindable: nobody can have bound it from outside either.
                Err(rustix::io::Errno::INVAL) => continue,
                tree => tree.with_context(failed)?,
            };
            let path = place.join(mounts.len().to_string());
            put(tree.as_fd(), &path, directory).with_context(failed)?;
            mounts.push((inside, path));
        }
        Ok(Staged { root: bare_root, mounts })
    }

    /// The kernel's path of a mount has no links in it. One that leads elsewhere now was changed
    /// while we looked.
    fn check_same(&self, source: impl AsFd, inside: &Path) -> Result<()> {
        let path = fs::read_link(format!("/proc/self/fd/{}", source.as_fd().as_raw_fd()))
            .context("cannot look at a mount")?;
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        if path.as_os_str().as_bytes() != self.rootfs.join(relative).as_os_str().as_bytes() {
            bail!("the rootfs changes while the container is restored: {}", inside.display());
        }
        Ok(())
    }
}

fn clone_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH
}

/// Attaches a detached mount to a new file or directory.
fn put(tree: impl AsFd, path: &Path, directory: bool) -> io::Result<()> {
    if directory {
        fs::create_dir(path)?;
    } else {
        File::create_new(path)?.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", rustix::fs::CWD, path, flags)?)
}
