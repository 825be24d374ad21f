//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::detached::{self, Blueprint};
use super::error::Reason;
use super::finish::FinishError;
use super::{stdio, target};
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
pub fn mask(root: &Root, paths: &[String]) -> Result<(), FinishError> {
    let mut covers = Covers::default();
    // Engines put lists together; a path named twice is hidden as well as one named once.
    let once = paths
        .iter()
        .enumerate()
        .filter(|(index, path)| !paths.iter().take(*index).any(|earlier| earlier == *path));
    for (_, path) in once {
        covers
            .cover(root, Path::new(path))
            .map_err(|reason| FinishError::Mask { path: PathBuf::from(path), reason })?;
    }
    Ok(())
}

/// What is mounted over masked paths, made when first needed.
#[derive(Debug, Default)]
struct Covers {
    file: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

impl Covers {
    fn cover(&mut self, root: &Root, path: &Path) -> Result<(), Reason> {
        let Some(target) = find(root, path)? else {
            return Ok(());
        };
        let kind = FileType::from_raw_mode(fstat(&target)?.st_mode);
        let cover = if kind == FileType::Directory {
            kept(&mut self.directory, empty_directory)?
        } else {
            kept(&mut self.file, || Ok(stdio::dev_null(root)?))?
        };
        let tree = detached::clone_fd(cover.as_fd(), false)?;
        Ok(detached::attach(tree.as_fd(), target.as_fd())?)
    }
}

/// What is in `slot`, put there by `make` the first time.
fn kept(
    slot: &mut Option<OwnedFd>,
    make: impl FnOnce() -> Result<OwnedFd, Reason>,
) -> Result<&OwnedFd, Reason> {
    Ok(match slot {
        Some(made) => made,
        None => slot.insert(make()?),
    })
}

/// A mount of an empty tmpfs in which nothing can be created.
fn empty_directory() -> Result<OwnedFd, Reason> {
    let attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let source = Some(Path::new("tmpfs"));
    let data = &["nr_blocks=1", "nr_inodes=1"];
    Blueprint { fstype: "tmpfs", source, data, attrs, superblock: 0 }.make_detached()
}

/// The thing at `path`, if there is one; never the root directory.
fn find(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Reason> {
    if target::clean(path) == Path::new("/") {
        return Err(Errno::INVAL.into());
    }
    Ok(root.find(path)?)
}
