//! Carrying a [`Plan`] out in the container's mount namespace.
//!
//! Runs in the init, after the spec's mounts and before the createContainer hooks and
//! pivot_root. Here belongs what touches the container's filesystem for the plan's files, links,
//! masks and loader files. Here does not belong: deciding anything about GPUs (`crate::gpu`), nor
//! the plan's device nodes, which join the spec's devices.
//!
//! The rules that every file here keeps:
//!
//! - A source is a path of the host, named by the plan. None ever comes from the image.
//! - A destination is resolved inside the [`Root`] once and is a descriptor from then on.
//! - A mount gets its flags while it is detached, so it is never seen without them.
//! - Nothing of the image or the host is executed.

mod compatibility;
mod cover;
mod destination;
mod error;
mod files;
mod filters;
mod generated;
mod links;
mod loader;
mod masks;

use crate::gpu::plan::Plan;
use crate::init::journal::Journal;
use crate::init::root::Root;

use destination::Destinations;
pub use error::ApplyError;
use generated::Generated;
pub(in crate::init) use loader::CACHE;

/// How many directories of a read-only rootfs may be covered, before something is wrong.
const MOST_COVERS: usize = 16;

/// Carries out `plan` in the container whose root is `root`. What has to be created in the
/// rootfs is noted in `journal` first, for [`crate::init::undo`]. `label` is `linux.mountLabel`, for
/// what is made here and not bound.
///
/// The caller's mount namespace must be the container's own, still with the host's files in it.
///
/// # Errors
/// [`ApplyError`]; the container cannot be started then, and the caller's mount namespace goes
/// away with its mounts.
pub fn apply(
    plan: &Plan,
    root: &Root,
    label: Option<&str>,
    journal: &mut Journal,
) -> Result<(), ApplyError> {
    let Plan { files, links, masks, filters, generated, libraries, compatibility, .. } = plan;
    let nothing = files.is_empty() && links.is_empty() && masks.is_empty() && filters.is_empty();
    if nothing && generated.is_empty() && libraries.is_empty() && compatibility.is_none() {
        return Ok(());
    }
    let destinations = Destinations::detect(root);
    let mut content = Generated::labelled(label);
    let mut covers = Vec::new();

    // A read-only directory that lacks a mount point is covered by a writable one. That hides
    // what was prepared in it, so the preparation starts again.
    let prepared = loop {
        let attempt = files::prepare(plan, &destinations, root, journal).and_then(|mut mounts| {
            mounts.extend(links::create(plan, &destinations, root, journal)?);
            mounts.extend(masks::prepare_own(plan, root, &mut content, journal)?);
            Ok(mounts)
        });
        match attempt {
            Err(ApplyError::ReadOnly { path }) if covers.len() < MOST_COVERS => {
                covers.push(cover::cover_parent(root, &path, label)?);
            }
            other => break other?,
        }
    };
    for cover in &covers {
        cover.seal()?;
    }
    files::attach(prepared)?;
    masks::attach(plan, root, &mut content)?;
    filters::attach(plan, root, &mut content)?;
    let newer = compatibility.as_ref().map(|asked| compatibility::libraries(asked, root));
    let newer = newer.unwrap_or_default();
    loader::update(plan, &newer, &destinations, root, journal, &mut content)
}

#[cfg(test)]
mod tests;
