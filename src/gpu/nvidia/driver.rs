//! Where the driver's libraries are.
//!
//! A directory is asked for a few well-known file names of the loaded version before it is
//! listed, so that a large library directory without the driver costs a handful of lookups.

use std::path::{Path, PathBuf};

use super::capabilities::Capabilities;
use super::config::Config;
use super::error::Error;
use super::host_cache;
use super::kernel::is_version;
use crate::host::Tree;
use crate::host::tree::Directory;

/// Where a driver container's root is mounted on the host.
const DRIVER_CONTAINER: &str = "run/nvidia/driver";

/// Arch's directory of all libraries, and the one for 32 bits where there is a `lib64`.
const USR_LIB: &str = "usr/lib";

/// Other directories of 32-bit libraries.
const COMPAT32_DIRECTORIES: [&str; 5] = [
    "usr/lib/i386-linux-gnu",
    "usr/lib/i386-linux-gnu/nvidia/current",
    "lib/i386-linux-gnu",
    "usr/lib32",
    "run/opengl-driver-32/lib",
];

/// Libraries of which one is in every directory that holds part of a driver. Debian spreads the
/// driver over two directories, hence more than libcuda.
const PROBES: [&str; 9] = [
    "libcuda",
    "libnvidia-ml",
    "libnvidia-glcore",
    "libnvidia-eglcore",
    "libGLX_nvidia",
    "libEGL_nvidia",
    "libnvidia-ptxjitcompiler",
    "libnvidia-glvkspirv",
    "libnvidia-pkcs11-openssl3",
];

/// Libraries with a version of their own that can be alone in a directory.
const GRAPHICS_PROBES: [&str; 3] =
    ["libnvidia-egl-gbm.so.1", "libnvidia-egl-wayland.so.1", "libnvidia-egl-wayland2.so.1"];

/// The libraries that a user-space driver of any version has; they name its version.
const VERSIONED: [&str; 2] = ["libcuda.so.", "libnvidia-ml.so."];

/// The driver's user-space part.
#[derive(Debug)]
pub struct Driver {
    /// The version, the kernel module's and the libraries'.
    pub version: String,
    /// The root below which its files are.
    pub tree: Tree,
    /// The directories with libraries, in order of preference.
    pub directories: Vec<LibraryDirectory>,
}

/// A directory that holds libraries of the driver.
#[derive(Debug)]
pub struct LibraryDirectory {
    /// Its path below the driver's root, as it was looked for.
    pub relative: PathBuf,
    /// The directory.
    pub directory: Directory,
}

/// The roots that [`locate`] may find a driver in, the inner one first.
pub fn roots(root: &Path) -> Vec<PathBuf> {
    vec![root.join(DRIVER_CONTAINER), root.to_owned()]
}

/// Finds the libraries of this version: below the root, else in a driver container's root that is
/// mounted in it, else in one of the `/usr/lib/nvidia-*`.
pub fn locate(
    root: Tree,
    version: &str,
    wanted: Capabilities,
    config: &Config,
) -> Result<Driver, Error> {
    let candidates = candidates(version, wanted, config);
    let driver = |tree, directories| Driver { version: version.to_owned(), tree, directories };
    let directories = below(&root, &candidates, version, wanted)?;
    if !directories.is_empty() {
        return Ok(driver(root, directories));
    }
    if let Some(container) = root.subtree(DRIVER_CONTAINER)? {
        let directories = below(&container, &candidates, version, wanted)?;
        if !directories.is_empty() {
            return Ok(driver(container, directories));
        }
    }
    let unusual = unusual(&root)?;
    let directories = search(&root, &unusual, version, wanted)?;
    if !directories.is_empty() {
        return Ok(driver(root, directories));
    }
    let known = host_cache::directories(&root, version)?;
    Err(missing(&root, candidates.into_iter().chain(unusual).chain(known), version)?)
}

/// The directories below one root: the well-known ones, and where these lack something that is
/// wanted, those that the loader's cache names.
fn below(
    tree: &Tree,
    candidates: &[PathBuf],
    version: &str,
    wanted: Capabilities,
) -> Result<Vec<LibraryDirectory>, Error> {
    let found = search(tree, candidates, version, wanted)?;
    if !lacks(&found, version, wanted) {
        return Ok(found);
    }
    let mut candidates = candidates.to_vec();
    candidates.extend(host_cache::directories(tree, version)?);
    search(tree, &candidates, version, wanted)
}

/// Whether a library is missing that an installed driver has for the wanted capabilities.
fn lacks(found: &[LibraryDirectory], version: &str, wanted: Capabilities) -> bool {
    let has = |stem: &str| {
        let name = format!("{stem}.so.{version}");
        found.iter().any(|known| known.directory.has(&name))
    };
    let is_32_bit = |known: &LibraryDirectory| {
        let place = known.relative.as_os_str();
        place == USR_LIB || COMPAT32_DIRECTORIES.iter().any(|known| place == *known)
    };
    found.is_empty()
        || (wanted.any(Capabilities::COMPUTE.or(Capabilities::VIDEO)) && !has("libcuda"))
        || (wanted.any(Capabilities::UTILITY) && !has("libnvidia-ml"))
        || (wanted.any(Capabilities::COMPAT32) && !found.iter().any(is_32_bit))
}

/// The directories to look in, below the driver's root.
fn candidates(version: &str, wanted: Capabilities, config: &Config) -> Vec<PathBuf> {
    let triplet = match std::env::consts::ARCH {
        "aarch64" => "aarch64-linux-gnu",
        _ => "x86_64-linux-gnu",
    };
    let branch = version.split('.').next().unwrap_or(version);
    let below = |path: &PathBuf| path.strip_prefix("/").unwrap_or(path).to_path_buf();
    let mut list: Vec<PathBuf> = config.library_paths.iter().map(below).collect();
    list.extend([
        format!("usr/lib/{triplet}").into(),
        "usr/lib64".into(),
        format!("usr/lib/{triplet}/nvidia/current").into(),
        format!("lib/{triplet}").into(),
        "lib64".into(),
        // Container-Optimized OS and others that install beside a read-only /usr.
        "usr/local/nvidia/lib64".into(),
        "usr/local/nvidia/lib".into(),
        "home/kubernetes/bin/nvidia/lib64".into(),
        // NixOS.
        "run/opengl-driver/lib".into(),
        // Talos.
        "usr/local/glibc/usr/lib".into(),
        USR_LIB.into(),
        // Bottlerocket.
        "usr/lib/nvidia/tesla".into(),
        // Flatcar, where the driver is not merged into /usr.
        "opt/nvidia/current/usr/lib64".into(),
        "opt/nvidia/current/lib64".into(),
        format!("usr/lib/nvidia-{branch}").into(),
        "usr/lib/nvidia-current".into(),
        "usr/lib/nvidia".into(),
    ]);
    if wanted.any(Capabilities::COMPAT32) {
        list.extend(COMPAT32_DIRECTORIES.map(PathBuf::from));
        list.push(format!("usr/lib32/nvidia-{branch}").into());
    }
    list
}

/// `/usr/lib/nvidia-*`, listed only when the well-known places hold nothing.
fn unusual(tree: &Tree) -> Result<Vec<PathBuf>, Error> {
    let names = tree.names("usr/lib")?;
    let ours = names.into_iter().filter(|name| name.starts_with("nvidia-"));
    Ok(ours.map(|name| Path::new("usr/lib").join(name)).collect())
}

/// The candidates that hold part of the driver, each real directory once.
fn search(
    tree: &Tree,
    candidates: &[PathBuf],
    version: &str,
    wanted: Capabilities,
) -> Result<Vec<LibraryDirectory>, Error> {
    let probes = PROBES.map(|stem| format!("{stem}.so.{version}"));
    let graphics = wanted.any(Capabilities::GRAPHICS.or(Capabilities::DISPLAY));
    let mut found: Vec<LibraryDirectory> = Vec::new();
    // Whether one of them holds the driver itself, not only libraries with their own version.
    let mut complete = false;
    for relative in candidates {
        let Some(directory) = tree.directory(relative)? else {
            continue;
        };
        if found.iter().any(|known| known.directory.path() == directory.path()) {
            continue;
        }
        let has_driver = probes.iter().any(|name| directory.has(name));
        complete |= has_driver;
        if has_driver || (graphics && GRAPHICS_PROBES.iter().any(|name| directory.has(name))) {
            found.push(LibraryDirectory { relative: relative.clone(), directory });
        }
    }
    if !complete {
        found.clear();
    }
    Ok(found)
}

/// Tells a driver of another version from no driver at all.
fn missing(
    tree: &Tree,
    searched: impl Iterator<Item = PathBuf>,
    version: &str,
) -> Result<Error, Error> {
    let mut names = Vec::new();
    for relative in searched {
        let mut other = None;
        if let Some(directory) = tree.directory(&relative)? {
            directory.each(|name, _| {
                let name = std::str::from_utf8(name).unwrap_or_default();
                let suffix = VERSIONED.iter().find_map(|stem| name.strip_prefix(stem));
                if let Some(user) = suffix.filter(|user| is_version(user)) {
                    other = Some(user.to_owned());
                }
            })?;
        }
        if let Some(user) = other {
            return Ok(Error::Mismatch {
                kernel: version.to_owned(),
                user,
                directory: tree.at(relative),
            });
        }
        names.push(tree.at(relative).display().to_string());
    }
    Ok(Error::NoLibraries { version: version.to_owned(), searched: names.join(", ") })
}
