//! Libraries that mounts of the spec bring into directories that the loader must know.
//!
//! What ldconfig would do there: an entry in the cache and a link for each SONAME.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::io::Errno;

use crate::gpu::lexical::joined;
use crate::gpu::plan::{Abi, FileKind, FileMount, Link, MountedLibrary, Place, Plan};
use crate::host::{HostError, Tree, elf};

/// A directory of a driver holds some hundred libraries.
const MOST_ENTRIES: usize = 10_000;

/// Notes for each library directory of the plan which libraries the mounts of the spec and of the
/// plan bring there, by looking at the mounts' sources.
///
/// # Errors
/// A source that exists and cannot be read.
pub fn add(spec: &Spec, plan: &mut Plan) -> Result<(), HostError> {
    if !plan.library_dirs.is_empty() {
        add_libraries(spec, plan)?;
    }
    if !plan.links.is_empty() {
        plan.brought = ends_of_links(spec, plan);
    }
    Ok(())
}

/// The mounts of the spec and of the plan to which links of the plan lead. Only their destinations
/// are compared: what is found in the container under such a path may be the image's.
fn ends_of_links(spec: &Spec, plan: &Plan) -> Vec<FileMount> {
    let ends: HashSet<PathBuf> = plan.links.iter().filter_map(end).collect();
    let mut brought: Vec<FileMount> = Vec::new();
    // A later mount covers an earlier one.
    for mount in spec.mounts().iter().flatten().chain(&plan.mounts).rev() {
        let path = joined(Path::new("/"), mount.destination());
        let Some(source) = source(mount).filter(|_| ends.contains(&path)) else { continue };
        let destination = Place::Path(path);
        if brought.iter().all(|known| known.destination != destination) {
            brought.push(FileMount {
                source: source.to_owned(),
                destination,
                kind: FileKind::Library { soname: None, abi: Abi::Native },
                why: "a mount of the spec, where a link leads to".to_owned(),
            });
        }
    }
    brought
}

/// Where a link leads, if its place does not depend on the image.
fn end(link: &Link) -> Option<PathBuf> {
    match &link.destination {
        Place::Path(path) => Some(joined(path.parent().unwrap_or(Path::new("/")), &link.target)),
        Place::Library(..) => None,
    }
}

/// The path of the host that a mount shows.
fn source(mount: &Mount) -> Option<&Path> {
    mount.source().as_deref().filter(|source| source.is_absolute())
}

fn add_libraries(spec: &Spec, plan: &mut Plan) -> Result<(), HostError> {
    let host = Tree::open(Path::new("/"))?;
    let mut found: Vec<MountedLibrary> = Vec::new();
    for mount in spec.mounts().iter().flatten().chain(&plan.mounts) {
        for library in brought(&host, mount, &plan.library_dirs)? {
            if found.iter().all(|known| known.path != library.path) {
                found.push(library);
            }
        }
    }
    for library in &found {
        let (Some(soname), Some(name)) = (&library.soname, library.path.file_name()) else {
            continue;
        };
        let link = library.path.with_file_name(soname);
        let destination = Place::Path(link.clone());
        let is_there = link == library.path
            || found.iter().any(|other| other.path == link)
            || plan.links.iter().any(|known| known.destination == destination);
        if !is_there {
            let why = "the library's SONAME".to_owned();
            plan.links.push(Link { destination, target: name.into(), why });
        }
    }
    plan.libraries = found;
    Ok(())
}

/// The libraries that the mount brings into one of the directories.
fn brought(host: &Tree, mount: &Mount, dirs: &[PathBuf]) -> Result<Vec<MountedLibrary>, HostError> {
    let Some(source) = source(mount) else {
        return Ok(Vec::new());
    };
    let destination = mount.destination();
    if destination.parent().is_some_and(|parent| dirs.iter().any(|dir| dir == parent))
        && destination.file_name().is_some_and(|name| is_library(&name.to_string_lossy()))
    {
        let file = host.open_file(source)?;
        let library = file.map(|file| library(file, source.to_owned(), destination.clone()));
        return Ok(library.transpose()?.flatten().into_iter().collect());
    }
    let mut found = Vec::new();
    for dir in dirs {
        let Ok(below) = dir.strip_prefix(destination) else { continue };
        // What is in the mount may be a user's: its links lead nowhere else.
        let Some(volume) = host.subtree(source)? else { continue };
        for name in names(&volume, below)? {
            let inside = below.join(&name);
            if let Some(file) = open_in(&volume, &inside)? {
                found.extend(library(file, source.join(inside), dir.join(name))?);
            }
        }
    }
    Ok(found)
}

/// The names like those of libraries in a directory, sorted.
fn names(volume: &Tree, below: &Path) -> Result<Vec<String>, HostError> {
    let mut names = Vec::new();
    if let Some(directory) = volume.directory(Path::new(".").join(below))? {
        directory.each(|name, _| {
            if let Ok(name) = std::str::from_utf8(name)
                && is_library(name)
                && names.len() < MOST_ENTRIES
            {
                names.push(name.to_owned());
            }
        })?;
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens a regular file of the volume. `None` also for links without an end and for those into
/// proc, which whoever fills the volume can make.
fn open_in(volume: &Tree, path: &Path) -> Result<Option<OwnedFd>, HostError> {
    volume.open_file(path).or_else(|err| match Errno::from_io_error(&err.source) {
        Some(Errno::LOOP | Errno::XDEV) => Ok(None),
        _ => Err(err),
    })
}

/// What the file says of itself; `None` for what is no library for this machine. From here on
/// nothing of it is read again: its name may stand for another file by then.
fn library(
    file: OwnedFd,
    source: PathBuf,
    path: PathBuf,
) -> Result<Option<MountedLibrary>, HostError> {
    match elf::read_identity(file) {
        Ok(identity) => Ok(identity.and_then(|identity| {
            let abi = Abi::of(&identity)?;
            Some(MountedLibrary { path, source, soname: identity.soname, abi })
        })),
        Err(err) => Err(HostError { action: "read", path: source, source: err }),
    }
}

/// What ldconfig takes for a library by its name.
fn is_library(name: &str) -> bool {
    name.starts_with("lib") && name.contains(".so")
}
