//! Read-only content in place of files of the container's proc.

use rustix::fs::{self, FileType};

use super::error::{ApplyError, name_of};
use super::files::attach_to;
use super::generated::Generated;
use crate::gpu::plan::Plan;
use crate::init::root::Root;

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
            FileType::Directory => generated.directory(root),
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
