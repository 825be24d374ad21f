//! The library directories that the driver root's `/etc/ld.so.cache` knows.
//!
//! The last resort: a distribution or an administrator can have put the driver anywhere, and
//! ldconfig was told. The cache is a table of names and paths; whether the driver is there and
//! has the right version is seen by looking.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::library_table::classify;
use crate::gpu::loader::{READ_LIMIT, cache};
use crate::host::Tree;

/// The file, below the driver's root.
const FILE: &str = "etc/ld.so.cache";

/// The names by which ldconfig enters the driver's libraries (their SONAMEs), whatever version.
const SONAMES: [&[u8]; 6] = [
    b"libcuda.so.1",
    b"libnvidia-ml.so.1",
    b"libnvidia-ptxjitcompiler.so.1",
    b"libnvidia-encode.so.1",
    b"libGLX_nvidia.so.0",
    b"libEGL_nvidia.so.0",
];

/// The directories, below the root, of every library of the driver in the cache; first as they
/// are named there, then those to which a link leads.
pub fn directories(tree: &Tree, version: &str) -> Result<Vec<PathBuf>, Error> {
    let limit = usize::try_from(READ_LIMIT).unwrap_or(usize::MAX);
    let Some(bytes) = tree.read(FILE, limit)? else {
        return Ok(Vec::new());
    };
    let is_driver = |name: &[u8]| {
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        SONAMES.contains(&name)
            || std::str::from_utf8(name).is_ok_and(|name| classify(name, version).is_some())
    };
    let mut paths: Vec<&Path> = Vec::new();
    let mut directories: Vec<PathBuf> = Vec::new();
    for (name, path) in cache::entries(&bytes) {
        if is_driver(name) || is_driver(path) {
            let path = Path::new(OsStr::from_bytes(path));
            paths.push(path);
            add(path, &mut directories);
        }
    }
    // What links lead to: /usr/lib/libcuda.so.1 can be a link into a store.
    if let Some(root) = tree.find(".")? {
        for path in paths {
            let Some(found) = tree.find(path.strip_prefix("/").unwrap_or(path))? else {
                continue;
            };
            if let Ok(real) = found.path.strip_prefix(&root.path) {
                add(real, &mut directories);
            }
        }
    }
    Ok(directories)
}

/// Adds the directory that holds `path`, once.
fn add(path: &Path, directories: &mut Vec<PathBuf>) {
    let directory = path.parent().map(|parent| parent.strip_prefix("/").unwrap_or(parent));
    if let Some(directory) = directory.filter(|directory| !directory.as_os_str().is_empty())
        && !directories.iter().any(|known| known == directory)
    {
        directories.push(directory.to_path_buf());
    }
}
