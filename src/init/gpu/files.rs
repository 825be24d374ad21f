//! Binding the host's files, directories and sockets into the container.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::destination::Destinations;
use super::error::{ApplyError, name_of};
use crate::gpu::plan::{FileKind, FileMount, Plan};
use crate::init::journal::Journal;
use crate::init::parent::Parent;
use crate::init::root::{Root, Whereabouts};
use crate::sys::mount::{MountAttr, mount_setattr};

/// Filesystems whose files are the kernel's own (linux/magic.h): proc, sysfs, cgroup, cgroup2. The
/// field's type differs between architectures; this one holds them all.
const KERNEL: [i128; 4] = [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270];

/// A detached mount and the place that waits for it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub mount: OwnedFd,
    pub target: OwnedFd,
    pub path: PathBuf,
    pub what: &'static str,
}

/// Makes a detached mount of every file of the plan and sees to it that each has a mount point.
///
/// # Errors
/// [`ApplyError::ReadOnly`] when a mount point is missing on a read-only filesystem, and others.
pub(super) fn prepare(
    plan: &Plan,
    destinations: &Destinations,
    root: &Root,
    journal: &mut Journal,
) -> Result<Vec<Prepared>, ApplyError> {
    let mut prepared: Vec<Prepared> = Vec::with_capacity(plan.files.len());
    let mut directories: Vec<PathBuf> = Vec::new();
    // Most files of a driver are in one directory.
    let mut parent = None;
    for file in &plan.files {
        let path = destinations.path(&file.destination);
        let (mount, is_dir) = detached(file).map_err(|reason| ApplyError::Source {
            path: file.source.clone(),
            why: file.why.clone(),
            reason,
        })?;
        // A file inside a directory that is mounted as well: that one must be there first, or it
        // would hide this one.
        if directories.iter().any(|dir| path.starts_with(dir)) {
            attach(std::mem::take(&mut prepared))?;
            directories.clear();
            parent = None;
        }
        let what = kind_name(&file.kind);
        let target = if is_dir {
            directories.push(path.clone());
            let at = |err| ApplyError::at(what, &path, err);
            let target = root.ensure_dir(&path, journal).map_err(at)?;
            refuse_root(root, &target, &path, what)?;
            target
        } else {
            file_target(root, &mut parent, &path, what, journal)?
        };
        prepared.push(Prepared { mount, target, path, what });
    }
    Ok(prepared)
}

/// Makes a detached mount of a file of the plan for a second name, where the image has `target`.
///
/// # Errors
/// [`ApplyError::Source`], and [`ApplyError::InTheWay`] for a directory of the plan, which cannot
/// be mounted on a file.
pub(super) fn prepare_over(
    file: &FileMount,
    path: PathBuf,
    target: OwnedFd,
) -> Result<Prepared, ApplyError> {
    let (mount, is_dir) = detached(file).map_err(|reason| ApplyError::Source {
        path: file.source.clone(),
        why: file.why.clone(),
        reason,
    })?;
    if is_dir {
        return Err(ApplyError::InTheWay {
            path,
            found: "a file or a link",
            wanted: "a link to a directory of the driver",
        });
    }
    Ok(Prepared { mount, target, path, what: kind_name(&file.kind) })
}

/// Makes a detached mount of a file that a mount of the spec brings, for a second name, where the
/// image has `target`. The source is the spec's, never what is found in the container.
///
/// `None` where that is no ordinary file (a copy of a file of proc would not be below what is
/// masked there), or cannot be opened by the root of a user namespace: the name stays the image's.
pub(super) fn prepare_brought(
    file: &FileMount,
    path: PathBuf,
    target: OwnedFd,
) -> Option<Prepared> {
    let (mount, is_dir) = detached(file).ok()?;
    let filesystem = i128::from(fs::fstatfs(&mount).ok()?.f_type);
    let is_ordinary = !is_dir && !KERNEL.contains(&filesystem);
    is_ordinary.then(|| Prepared { mount, target, path, what: kind_name(&file.kind) })
}

/// Puts the detached mounts into place.
///
/// # Errors
/// [`ApplyError::Destination`].
pub(super) fn attach(prepared: Vec<Prepared>) -> Result<(), ApplyError> {
    for Prepared { mount, target, path, what } in prepared {
        attach_to(&mount, &target).map_err(|err| ApplyError::at(what, &path, err))?;
    }
    Ok(())
}

/// Puts a detached mount on what `target` refers to.
pub(super) fn attach_to(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Sees to it that a file can be mounted at `path`, and returns that place.
///
/// A symbolic link in the image is not followed: the mount goes on the link itself, which the
/// kernel allows, so that the name is the driver's file and what the link pointed to stays what
/// it was. `parent` keeps the directory for the next call.
///
/// # Errors
/// [`ApplyError::InTheWay`] for anything but a file, a link or a socket.
pub(super) fn file_target(
    root: &Root,
    parent: &mut Option<Parent>,
    path: &Path,
    what: &'static str,
    journal: &mut Journal,
) -> Result<OwnedFd, ApplyError> {
    let at = |err: io::Error| ApplyError::at(what, path, err);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(at(Errno::INVAL.into()));
    };
    let parent = root.parent_again(dir, parent, journal).map_err(at)?;
    let fd = match parent.open(name) {
        Ok(fd) => fd,
        Err(err) if Errno::from_io_error(&err) == Some(Errno::NOENT) => {
            return parent.create_file(name, journal).map_err(at);
        }
        Err(err) => return Err(at(err)),
    };
    fit_for_a_file(fd, path, what)
}

/// Refuses to mount on the root itself, where a link of the image leads to it: what is there would
/// be on top of the container's root, for whoever enters its mount namespace.
///
/// # Errors
/// [`ApplyError::InTheWay`].
pub(super) fn refuse_root(
    root: &Root,
    target: &OwnedFd,
    path: &Path,
    wanted: &'static str,
) -> Result<(), ApplyError> {
    match root.whereabouts(target).map_err(|err| ApplyError::at(wanted, path, err))? {
        Whereabouts::Root => {
            let (path, found) = (path.to_owned(), "a link to the root");
            Err(ApplyError::InTheWay { path, found, wanted })
        }
        Whereabouts::OwnMount | Whereabouts::OtherMount => Ok(()),
    }
}

/// What the image has at `path`, if a file can be mounted on it.
///
/// # Errors
/// [`ApplyError::InTheWay`] for anything but a file, a link or a socket.
pub(super) fn fit_for_a_file(
    fd: OwnedFd,
    path: &Path,
    what: &'static str,
) -> Result<OwnedFd, ApplyError> {
    let stat = fs::fstat(&fd).map_err(|err| ApplyError::at(what, path, err))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => Ok(fd),
        FileType::Socket if what == kind_name(&FileKind::Ipc) => Ok(fd),
        found => {
            Err(ApplyError::InTheWay { path: path.to_owned(), found: name_of(found), wanted: what })
        }
    }
}

/// A detached copy of the mount of a file on the host, with its final flags, and whether it is a
/// directory.
fn detached(file: &FileMount) -> io::Result<(OwnedFd, bool)> {
    let is_ipc = file.kind == FileKind::Ipc;
    let mount = open_source(&file.source, is_ipc)?;
    let found = FileType::from_raw_mode(fs::fstat(&mount)?.st_mode);
    let fits = match found {
        FileType::RegularFile | FileType::Directory => true,
        FileType::Socket => is_ipc,
        _ => false,
    };
    if !fits {
        return Err(io::Error::other(format!("it is {}", name_of(found))));
    }
    mount_setattr(&mount, &attributes(&file.kind), true)?;
    Ok((mount, found == FileType::Directory))
}

/// A plan's sources have their links resolved: one that is there now was put there since. Above the
/// driver's files only root can do that, and a look at the last name costs nothing. What a daemon
/// made may be in a directory of another user's, and it is mounted writable: no link at all.
fn open_source(source: &Path, is_ipc: bool) -> io::Result<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    if !is_ipc {
        return Ok(open_tree(CWD, source, clone | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)?);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match fs::openat2(CWD, source, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(file) => Ok(open_tree(file, "", clone | OpenTreeFlags::AT_EMPTY_PATH)?),
        Err(Errno::LOOP) => Err(io::Error::other("a link is in its place or on the way to it")),
        Err(errno) => Err(errno.into()),
    }
}

/// The mount flags for a kind of file.
fn attributes(kind: &FileKind) -> MountAttr {
    let mut set = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if !matches!(kind, FileKind::Ipc) {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if matches!(kind, FileKind::Data | FileKind::Ipc) {
        set |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    MountAttr { set: set.bits().into(), propagation: libc::MS_PRIVATE, ..MountAttr::default() }
}

/// What a kind of file is called in an error.
fn kind_name(kind: &FileKind) -> &'static str {
    match kind {
        FileKind::Library { .. } => "a library",
        FileKind::Binary => "a program",
        FileKind::Data => "a data file",
        FileKind::Ipc => "a socket",
    }
}
