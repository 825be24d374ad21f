//! Directories of the container's proc that show only some of their entries.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::error::{ApplyError, name_of};
use super::files::{attach_to, refuse_root};
use super::generated::Generated;
use crate::gpu::plan::{Filter, Plan};
use crate::init::root::Root;
use crate::sys::mount::{MountAttr, mount_setattr};

/// Covers each filtered directory with one that has the entries to keep, and these with what they
/// were. What is not kept is not reachable by a name, whoever asks, and neither is what the
/// kernel adds to the directory later. A directory that the container does not have is passed
/// over.
///
/// # Errors
/// [`ApplyError::InTheWay`] when there is something else than a directory, and
/// [`ApplyError::Destination`].
pub(super) fn attach(
    plan: &Plan,
    root: &Root,
    generated: &mut Generated,
) -> Result<(), ApplyError> {
    for filter in &plan.filters {
        let path = &filter.destination;
        let at = |err| ApplyError::at("a filtered directory", path, err);
        let Some(target) = root.find(path).map_err(at)? else {
            continue;
        };
        let stat = fs::fstat(&target).map_err(|err| at(err.into()))?;
        let found = FileType::from_raw_mode(stat.st_mode);
        if found != FileType::Directory {
            return Err(ApplyError::InTheWay {
                path: path.clone(),
                found: name_of(found),
                wanted: "a filtered directory",
            });
        }
        refuse_root(root, &target, path, "a filtered directory")?;
        let kept = kept(filter, &target).map_err(at)?;
        let names: Vec<String> = kept.iter().map(|(name, _)| name.clone()).collect();
        let cover = generated
            .directory(&names, root)
            .map_err(|reason| ApplyError::Generate { path: path.clone(), reason })?;
        attach_to(&cover, &target).map_err(at)?;
        for (name, mount) in kept {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = fs::openat(&cover, name.as_str(), flags, Mode::empty());
            attach_to(&mount, &place.map_err(|err| at(err.into()))?).map_err(at)?;
        }
    }
    Ok(())
}

/// Detached, read-only copies of the entries of `directory` to keep, those that exist. A link is
/// none: without a procfs there it would be the image's, and lead to what is masked elsewhere.
fn kept(filter: &Filter, directory: &OwnedFd) -> io::Result<Vec<(String, OwnedFd)>> {
    let mut kept: Vec<(String, OwnedFd)> = Vec::with_capacity(filter.keep.len());
    for name in &filter.keep {
        let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        if !is_plain || kept.iter().any(|(known, _)| known == name) {
            continue;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = match fs::openat(directory, name.as_str(), flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            entry => entry?,
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let mount = open_tree(&entry, "", flags)?;
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let attr = MountAttr {
            set: set.bits().into(),
            propagation: libc::MS_PRIVATE,
            ..MountAttr::default()
        };
        mount_setattr(&mount, &attr, true)?;
        kept.push((name.clone(), mount));
    }
    Ok(kept)
}
