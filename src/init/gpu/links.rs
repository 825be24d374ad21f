//! The plan's symbolic links, and what stands in for one whose name the image has taken.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::destination::Destinations;
use super::error::{ApplyError, name_of};
use super::files::{self, Prepared};
use crate::gpu::lexical::joined;
use crate::gpu::plan::{FileMount, Link, Plan};
use crate::init::journal::Journal;
use crate::init::root::Root;

/// How many links may lead from one to the next: the kernel's own limit (`MAXSYMLINKS`).
const LONGEST_CHAIN: usize = 40;

/// Creates the plan's links where nothing has the name.
///
/// A file or another link of the image is not replaced, because it would be gone when the
/// container is: the file that the link finally leads to is mounted over it, so the name opens the
/// same file. Those mounts are given back, for [`files::attach`]. What is in the way stays
/// visible where the link leads to no file that the plan or a mount of the spec brings (a device
/// node), and where the user mounted something on the very name.
///
/// # Errors
/// [`ApplyError::InTheWay`] for a directory or special file; [`ApplyError::ReadOnly`] and
/// [`ApplyError::Source`].
pub(super) fn create(
    plan: &Plan,
    destinations: &Destinations,
    root: &Root,
    journal: &mut Journal,
) -> Result<Vec<Prepared>, ApplyError> {
    let mut stand_ins = Vec::new();
    // Images that have one of the names are rare, so where links lead is looked at for those only.
    let mut ends = None;
    // Most links of a driver are in one directory.
    let mut parent = None;
    for link in &plan.links {
        let path = destinations.path(&link.destination);
        let at = |err| ApplyError::at("a link", &path, err);
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(at(Errno::INVAL.into()));
        };
        let parent = root.parent_again(dir, &mut parent, journal).map_err(at)?;
        let found = match parent.open(name) {
            Ok(found) => found,
            Err(err) if Errno::from_io_error(&err) == Some(Errno::NOENT) => {
                parent.create_link(name, &link.target, journal).map_err(at)?;
                continue;
            }
            Err(err) => return Err(at(err)),
        };
        // An empty path reads the link that the descriptor is on.
        let is_it = fs::readlinkat(&found, "", Vec::new())
            .is_ok_and(|text| text.as_bytes() == link.target.as_os_str().as_bytes());
        if is_it || is_mount_point(&found).map_err(at)? {
            continue;
        }
        let ends = ends.get_or_insert_with(|| Ends::of(plan, destinations));
        let Some(end) = ends.follow(&path) else {
            continue;
        };
        let stat = fs::fstat(&found).map_err(|err| at(err.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => stand_ins.extend(match end {
                End::Planned(file) => Some(files::prepare_over(file, path, found)?),
                End::Brought(file) => files::prepare_brought(file, path, found),
            }),
            found => {
                return Err(ApplyError::InTheWay { path, found: name_of(found), wanted: "a link" });
            }
        }
    }
    Ok(stand_ins)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Whether something is mounted on the very thing that `fd` refers to.
fn is_mount_point(fd: &OwnedFd) -> io::Result<bool> {
    let stat = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Where the plan's links lead, as paths of the container.
struct Ends<'a> {
    links: HashMap<PathBuf, &'a Path>,
    files: HashMap<PathBuf, End<'a>>,
}

/// What is at the end of links.
#[derive(Clone, Copy)]
enum End<'a> {
    /// A file of the plan.
    Planned(&'a FileMount),
    /// A file that a mount of the spec brings.
    Brought(&'a FileMount),
}

impl<'a> Ends<'a> {
    fn of(plan: &'a Plan, destinations: &Destinations) -> Self {
        let link = |link: &'a Link| (destinations.path(&link.destination), link.target.as_path());
        let path = |file: &FileMount| destinations.path(&file.destination);
        let brought = plan.brought.iter().map(|file| (path(file), End::Brought(file)));
        let planned = plan.files.iter().map(|file| (path(file), End::Planned(file)));
        Self {
            links: plan.links.iter().map(link).collect(),
            files: brought.chain(planned).collect(),
        }
    }

    /// The file at the end of the links that begin at `path`. Only the plan is looked at: what
    /// the image has under these names says nothing about the driver.
    fn follow(&self, path: &Path) -> Option<End<'a>> {
        let mut path = path.to_owned();
        for _ in 0..LONGEST_CHAIN {
            let Some(target) = self.links.get(&path) else {
                break;
            };
            path = joined(parent_of(&path), target);
        }
        self.files.get(&path).copied()
    }
}
