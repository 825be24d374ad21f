//! Files with made-up content: in place of files of the container's proc, and at places of their
//! own.

use rustix::fs::{self, FileType};

use super::error::{ApplyError, name_of};
use super::files::{Prepared, attach_to, file_target, refuse_root};
use super::generated::Generated;
use crate::gpu::plan::Plan;
use crate::init::journal::Journal;
use crate::init::root::Root;

/// Makes the plan's generated files and sees to it that each has a mount point.
///
/// # Errors
/// [`ApplyError::Generate`] and those of a missing mount point.
pub(super) fn prepare_own(
    plan: &Plan,
    root: &Root,
    generated: &mut Generated,
    journal: &mut Journal,
) -> Result<Vec<Prepared>, ApplyError> {
    let what = "a generated file";
    let files = plan.generated.iter().map(|file| {
        let path = file.destination.clone();
        let target = file_target(root, &mut None, &path, what, journal)?;
        let mount = generated
            .file(file.content.as_bytes(), root)
            .map_err(|reason| ApplyError::Generate { path: path.clone(), reason })?;
        Ok(Prepared { mount, target, path, what })
    });
    files.collect()
}

/// Mounts each mask of the plan over its path; over a directory goes an empty one. A path that
/// the container does not have hides nothing and is passed over: the driver's directory in proc
/// is absent without its kernel module, and a container may have no proc.
///
/// # Errors
/// [`ApplyError::InTheWay`] and [`ApplyError::Destination`].
pub(super) fn attach(
    plan: &Plan,
    root: &Root,
    generated: &mut Generated,
) -> Result<(), ApplyError> {
    for mask in &plan.masks {
        let path = &mask.destination;
        let at = |err| ApplyError::at("a mask", path, err);
        let Some(target) = root.find(path).map_err(at)? else {
            continue;
        };
        let stat = fs::fstat(&target).map_err(|err| at(err.into()))?;
        let mount = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => generated.file(mask.content.as_bytes(), root),
            FileType::Directory => {
                refuse_root(root, &target, path, "a mask")?;
                generated.directory(&[], root)
            }
            found => {
                return Err(ApplyError::InTheWay {
                    path: path.clone(),
                    found: name_of(found),
                    wanted: "a mask",
                });
            }
        };
        let mount = mount.map_err(|reason| ApplyError::Generate { path: path.clone(), reason })?;
        attach_to(&mount, &target).map_err(at)?;
    }
    Ok(())
}
