//! The plan's symbolic links.

use std::os::unix::ffi::OsStrExt;

use rustix::fs;
use rustix::io::Errno;

use super::destination::Destinations;
use super::error::ApplyError;
use crate::gpu::plan::Plan;
use crate::init::journal::Journal;
use crate::init::root::Root;

/// Creates the plan's links. A link or file of the image that has the name is replaced; where a
/// volume of the user is mounted, what is there stays, because it may be a file of the host.
///
/// # Errors
/// [`ApplyError::InTheWay`] for a directory; [`ApplyError::ReadOnly`].
pub(super) fn create(
    plan: &Plan,
    destinations: &Destinations,
    root: &Root,
    journal: &mut Journal,
) -> Result<(), ApplyError> {
    for link in &plan.links {
        let path = destinations.path(&link.destination);
        let at = |err| ApplyError::at("a link", &path, err);
        if let Ok(found) = root.resolve_nofollow(&path) {
            // An empty path reads the link that the descriptor is on.
            match fs::readlinkat(&found, "", Vec::new()) {
                Ok(text) if text.as_bytes() == link.target.as_os_str().as_bytes() => continue,
                _ if !root.is_own_mount(&found).map_err(at)? => continue,
                _ => {}
            }
        }
        root.replace_link(&path, &link.target, journal).map_err(
            |err| match Errno::from_io_error(&err) {
                Some(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => ApplyError::InTheWay {
                    path: path.clone(),
                    found: "a directory",
                    wanted: "a link",
                },
                _ => at(err),
            },
        )?;
    }
    Ok(())
}
