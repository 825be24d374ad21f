//! Which sources of bind mounts the runtime opens for a container, and the user namespaces that
//! their id maps need. See `crate::init::rootfs::open_sources`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::idmap;
use crate::init::namespaces::Namespaces;
use crate::init::rootfs::{IdMapping, SourcesWanted, open_sources};

/// Opens what the container's init could not open or map itself; nothing for a container without
/// a user namespace and without id-mapped mounts.
///
/// # Errors
/// Names the mount.
pub fn open(
    spec: &Spec,
    bundle: &Path,
    namespaces: &Namespaces,
    rootless: bool,
) -> Result<Vec<Option<OwnedFd>>> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let linux = spec.linux().as_ref();
    let userns = namespaces.has(CloneFlags::CLONE_NEWUSER);
    let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let wanted = SourcesWanted {
        bundle,
        all: userns && !rootless,
        shared: !userns && matches!(propagation, Some("shared" | "rshared")),
    };
    let mut made: Vec<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>, OwnedFd)> = Vec::new();
    open_sources(mounts, &wanted, |ids| {
        if rootless {
            bail!("id-mapped mounts are not supported for rootless containers");
        }
        let (uids, gids) = match maps(spec, ids)? {
            Maps::Of(uids, gids) => (uids, gids),
            Maps::Joined(namespace) => return Ok(namespace),
        };
        // Volumes of one pod have the same maps.
        let same = made.iter().find(|(u, g, _)| u == uids && g == gids);
        if let Some((_, _, namespace)) = same {
            return namespace.try_clone().context("cannot keep a user namespace open");
        }
        let namespace = idmap::namespace(uids, gids)?;
        let copy = namespace.try_clone().context("cannot keep a user namespace open")?;
        made.push((uids.to_vec(), gids.to_vec(), namespace));
        Ok(copy)
    })
}

/// Where the maps of an id-mapped mount come from.
enum Maps<'a> {
    /// Written in the spec.
    Of(&'a [LinuxIdMapping], &'a [LinuxIdMapping]),
    /// Those of the user namespace that the container joins.
    Joined(OwnedFd),
}

fn maps<'a>(spec: &'a Spec, ids: &IdMapping<'a>) -> Result<Maps<'a>> {
    if !ids.uids.is_empty() {
        return Ok(Maps::Of(ids.uids, ids.gids));
    }
    let linux = spec.linux().as_ref().context("the spec has no linux section")?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let user = namespaces.iter().find(|one| one.typ() == LinuxNamespaceType::User);
    let path = user.and_then(|one| one.path().as_ref()).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path {
        let file = File::open(path).with_context(|| {
            format!("cannot open the user namespace {} for id-mapped mounts", path.display())
        })?;
        return Ok(Maps::Joined(file.into()));
    }
    let list = |maps: &'a Option<Vec<LinuxIdMapping>>| maps.as_deref().unwrap_or_default();
    Ok(Maps::Of(list(linux.uid_mappings()), list(linux.gid_mappings())))
}
