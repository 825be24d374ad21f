//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::detached::{self, Blueprint};
use super::error::Reason;
use super::finish::FinishError;
use super::{stdio, target};
use crate::init::label;
use crate::init::root::Root;
use crate::sys::mount::{MountAttr, mount_setattr};

/// Makes each of `paths` read-only by a bind mount of itself. What does not exist is skipped.
pub fn readonly(root: &Root, paths: &[String]) -> Result<(), FinishError> {
    for path in paths {
        one_readonly(root, Path::new(path))
            .map_err(|reason| FinishError::Readonly { path: PathBuf::from(path), reason })?;
    }
    Ok(())
}

fn one_readonly(root: &Root, path: &Path) -> Result<(), Reason> {
    let Some(target) = find(root, path)? else {
        return Ok(());
    };
    let tree = detached::clone_fd(target.as_fd(), true)?;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(&tree, &attr, false)?;
    Ok(detached::attach(tree.as_fd(), target.as_fd())?)
}

/// Hides each of `paths`: a file behind /dev/null, a directory behind an empty read-only tmpfs
/// that all of them share. What does not exist is skipped.
pub fn mask(root: &Root, paths: &[String], label: Option<&str>) -> Result<(), FinishError> {
    let mut covers = Covers { label, ..Covers::default() };
    // Engines put lists together; a path named twice is hidden as well as one named once.
    let mut seen = HashSet::with_capacity(paths.len());
    for path in paths.iter().filter(|path| seen.insert(path.as_str())) {
        covers
            .cover(root, Path::new(path))
            .map_err(|reason| FinishError::Mask { path: PathBuf::from(path), reason })?;
    }
    Ok(())
}

/// What is mounted over masked paths, kept for the next one.
#[derive(Debug, Default)]
struct Covers<'a> {
    /// The SELinux label of the tmpfs.
    label: Option<&'a str>,
    /// The container's /dev/null.
    file: Option<OwnedFd>,
    /// The empty tmpfs that covers the first directory.
    directory: Option<OwnedFd>,
}

impl Covers<'_> {
    fn cover(&mut self, root: &Root, path: &Path) -> Result<(), Reason> {
        let Some(target) = find(root, path)? else {
            return Ok(());
        };
        if FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory {
            self.cover_directory(&target)
        } else {
            self.cover_file(root, &target)
        }
    }

    fn cover_file(&mut self, root: &Root, target: &OwnedFd) -> Result<(), Reason> {
        let null = match &self.file {
            Some(null) => null,
            None => self.file.insert(stdio::dev_null(root)?),
        };
        let tree = detached::clone_fd(null.as_fd(), false)?;
        Ok(detached::attach(tree.as_fd(), target.as_fd())?)
    }

    /// The first directory gets the tmpfs itself, the others copies of it: before Linux 6.15
    /// only a mount that is attached can be copied.
    fn cover_directory(&mut self, target: &OwnedFd) -> Result<(), Reason> {
        let tree = match &self.directory {
            Some(first) => detached::clone_fd(first.as_fd(), false)?,
            None => empty_directory(self.label)?,
        };
        detached::attach(tree.as_fd(), target.as_fd())?;
        self.directory.get_or_insert(tree);
        Ok(())
    }
}

/// A mount of an empty tmpfs in which nothing can be created.
fn empty_directory(label: Option<&str>) -> Result<OwnedFd, Reason> {
    let attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let source = Some(Path::new("tmpfs"));
    let context = label::option(label);
    let mut data = vec!["nr_blocks=1", "nr_inodes=1"];
    data.extend(context.as_deref());
    Blueprint { fstype: "tmpfs", source, data: &data, attrs, superblock: 0 }.make_detached()
}

/// The thing at `path`, if there is one; never the root directory.
fn find(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Reason> {
    if target::clean(path) == Path::new("/") {
        return Err(Errno::INVAL.into());
    }
    Ok(root.find(path)?)
}
