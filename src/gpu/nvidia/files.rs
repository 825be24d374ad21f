//! The driver's files that are not libraries: programs, firmware, configuration and sockets.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::capabilities::Capabilities;
use super::config::Config;
use super::driver::Driver;
use super::error::Error;
use crate::gpu::plan::{FileKind, FileMount, Place, Plan};
use crate::host::tree::{Directory, Found};
use crate::host::{Host, HostError, Tree};

const UTILITY: Capabilities = Capabilities::UTILITY;
const COMPUTE: Capabilities = Capabilities::COMPUTE;
const DISPLAY: Capabilities = Capabilities::DISPLAY;
const GRAPHICS: Capabilities = Capabilities::GRAPHICS.or(DISPLAY);

/// Programs, with the capability that brings them.
const PROGRAMS: [(&str, Capabilities); 9] = [
    ("nvidia-smi", UTILITY),
    ("nvidia-debugdump", UTILITY),
    ("nvidia-persistenced", UTILITY),
    ("nv-fabricmanager", UTILITY),
    ("nvidia-imex", UTILITY),
    ("nvidia-imex-ctl", UTILITY),
    ("nvidia-cuda-mps-control", COMPUTE),
    ("nvidia-cuda-mps-server", COMPUTE),
    ("nvidia-xconfig", DISPLAY),
];

/// Where programs are, below the driver's root.
const PROGRAM_DIRECTORIES: [&str; 14] = [
    "usr/bin",
    "usr/sbin",
    "bin",
    "sbin",
    "usr/local/bin",
    "usr/local/sbin",
    "usr/local/nvidia/bin",
    "home/kubernetes/bin/nvidia/bin",
    "usr/lib/nvidia/current",
    "run/current-system/sw/bin",
    "usr/libexec/nvidia/tesla/bin",
    "opt/bin",
    "opt/nvidia/current/usr/bin",
    "opt/nvidia/current/bin",
];

/// Configuration and data, with the directory they go to in the container.
const DATA: [(&str, &str, Capabilities); 14] = [
    ("OpenCL/vendors/nvidia.icd", "/etc", COMPUTE),
    ("glvnd/egl_vendor.d/10_nvidia.json", "/usr/share", GRAPHICS),
    ("egl/egl_external_platform.d/15_nvidia_gbm.json", "/usr/share", GRAPHICS),
    ("egl/egl_external_platform.d/10_nvidia_wayland.json", "/usr/share", GRAPHICS),
    ("egl/egl_external_platform.d/09_nvidia_wayland2.json", "/usr/share", GRAPHICS),
    ("egl/egl_external_platform.d/20_nvidia_xcb.json", "/usr/share", GRAPHICS),
    ("egl/egl_external_platform.d/20_nvidia_xlib.json", "/usr/share", GRAPHICS),
    ("vulkan/icd.d/nvidia_icd.json", "/etc", GRAPHICS),
    ("vulkan/icd.d/nvidia_layers.json", "/etc", GRAPHICS),
    ("vulkan/implicit_layer.d/nvidia_layers.json", "/etc", GRAPHICS),
    (VULKAN_ICD, "/etc", GRAPHICS),
    ("nvidia/nvoptix.bin", "/usr/share", GRAPHICS),
    ("X11/xorg.conf.d/10-nvidia.conf", "/usr/share", DISPLAY),
    ("X11/xorg.conf.d/nvidia-drm-outputclass.conf", "/usr/share", DISPLAY),
];

const VULKAN_ICD: &str = if cfg!(target_arch = "aarch64") {
    "vulkan/icd.d/nvidia_icd.aarch64.json"
} else {
    "vulkan/icd.d/nvidia_icd.x86_64.json"
};

/// Where configuration and data are, below the driver's root.
const DATA_DIRECTORIES: [&str; 6] = [
    "etc",
    "usr/local/share",
    "usr/share",
    "run/opengl-driver/share",
    // Container-Optimized OS, by its root and by the driver's.
    "home/kubernetes/bin/nvidia",
    ".",
];

/// Sockets of the driver's daemons, below `/run`.
const SOCKETS: [&str; 2] = ["nvidia-persistenced/socket", "nvidia-fabricmanager/socket"];

/// How firmware files end; the kernel unpacks compressed ones.
const FIRMWARE_ENDS: [&str; 3] = [".bin", ".bin.xz", ".bin.zst"];

/// Why a firmware file is in a plan.
pub const FIRMWARE: &str = "firmware";

/// Adds programs, firmware, configuration and sockets.
pub fn add(
    driver: &Driver,
    host: &Host,
    wanted: Capabilities,
    config: &Config,
    plan: &mut Plan,
) -> Result<(), Error> {
    programs(driver, wanted, config, plan)?;
    firmware(driver, host, plan)?;
    data(driver, wanted, plan)?;
    ipc(driver, wanted, plan)?;
    Ok(())
}

fn programs(
    driver: &Driver,
    wanted: Capabilities,
    config: &Config,
    plan: &mut Plan,
) -> Result<(), HostError> {
    let directories = program_directories(&driver.tree, config)?;
    for (name, capability) in PROGRAMS.iter().filter(|(_, set)| set.any(wanted)) {
        if let Some((_, found)) = program_in(&driver.tree, &directories, name)? {
            let destination = Path::new("/usr/bin").join(name);
            plan.files.push(file(found, destination, FileKind::Binary, *capability, wanted));
        }
    }
    Ok(())
}

/// A program of the driver: its path below the root and what is there. `None`: there is none.
pub fn program(
    tree: &Tree,
    name: &str,
    config: &Config,
) -> Result<Option<(PathBuf, Found)>, HostError> {
    program_in(tree, &program_directories(tree, config)?, name)
}

/// The directories with programs, each real one once: most of the places do not exist, and some
/// are links to another.
fn program_directories<'a>(
    tree: &Tree,
    config: &'a Config,
) -> Result<Vec<(&'a Path, Directory)>, HostError> {
    let own = config.binary_paths.iter().map(PathBuf::as_path);
    let mut directories: Vec<(&Path, Directory)> = Vec::new();
    for place in own.chain(PROGRAM_DIRECTORIES.iter().map(Path::new)) {
        let Some(directory) = tree.directory(place)? else {
            continue;
        };
        if directories.iter().all(|(_, known)| known.path() != directory.path()) {
            directories.push((place, directory));
        }
    }
    Ok(directories)
}

fn program_in(
    tree: &Tree,
    directories: &[(&Path, Directory)],
    name: &str,
) -> Result<Option<(PathBuf, Found)>, HostError> {
    for (place, _) in directories.iter().filter(|(_, directory)| directory.has(name)) {
        let path = place.join(name);
        let Some(found) = tree.find(&path)? else {
            continue;
        };
        if found.status.kind == FileType::RegularFile && found.status.mode & 0o111 != 0 {
            return Ok(Some((path, found)));
        }
    }
    Ok(None)
}

/// The firmware of the GPU's system processor, which the driver's programs load by this path.
fn firmware(driver: &Driver, host: &Host, plan: &mut Plan) -> Result<(), HostError> {
    let line = |text: Option<String>| text.map(|text| text.trim().to_owned()).unwrap_or_default();
    let own = line(host.sys.read_text("module/firmware_class/parameters/path", 4096)?);
    let release = line(host.proc.read_text("sys/kernel/osrelease", 256)?);
    let mut directories = Vec::new();
    if own.starts_with('/') {
        directories.push(PathBuf::from(own));
    }
    if !release.is_empty() && !release.contains('/') {
        directories.push(format!("/lib/firmware/updates/{release}").into());
    }
    directories.push("/lib/firmware/updates".into());
    if !release.is_empty() && !release.contains('/') {
        directories.push(format!("/lib/firmware/{release}").into());
    }
    directories.push("/lib/firmware".into());
    for directory in directories {
        let directory = directory.join("nvidia").join(&driver.version);
        for name in driver.tree.names(&directory)? {
            if !(name.starts_with("gsp") && FIRMWARE_ENDS.iter().any(|end| name.ends_with(end))) {
                continue;
            }
            let path = directory.join(name);
            let Some(found) = driver.tree.find(&path)? else {
                continue;
            };
            let known = plan.files.iter().any(|known| known.source == found.path);
            if found.status.kind == FileType::RegularFile && !known {
                plan.files.push(FileMount {
                    source: found.path,
                    destination: Place::Path(path),
                    kind: FileKind::Data,
                    why: FIRMWARE.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn data(driver: &Driver, wanted: Capabilities, plan: &mut Plan) -> Result<(), HostError> {
    // Few machines have them all: each file is then not looked for where nothing is.
    let mut directories = Vec::new();
    for place in DATA_DIRECTORIES.map(Path::new) {
        if driver.tree.status(place)?.is_some() {
            directories.push(place);
        }
    }
    for (name, directory, capability) in DATA.iter().filter(|(.., set)| set.any(wanted)) {
        let places = directories.iter().map(|place| place.join(name));
        // Debian keeps nvoptix.bin beside the libraries.
        let base = Path::new(name).file_name().filter(|_| name.ends_with(".bin"));
        let beside = base.into_iter().flat_map(|base| {
            driver.directories.iter().map(move |directory| directory.relative.join(base))
        });
        for place in places.chain(beside) {
            let Some(found) = driver.tree.find(place)? else {
                continue;
            };
            if found.status.kind == FileType::RegularFile {
                let destination = Path::new(directory).join(name);
                plan.files.push(file(found, destination, FileKind::Data, *capability, wanted));
                break;
            }
        }
    }
    Ok(())
}

fn ipc(driver: &Driver, wanted: Capabilities, plan: &mut Plan) -> Result<(), HostError> {
    if wanted.any(UTILITY) {
        for name in SOCKETS {
            for run in ["run", "var/run"] {
                let path = Path::new(run).join(name);
                let Some(found) = driver.tree.find(&path)? else {
                    continue;
                };
                if found.status.kind == FileType::Socket {
                    let destination = Path::new("/").join(path);
                    plan.files.push(file(found, destination, FileKind::Ipc, UTILITY, wanted));
                    break;
                }
            }
        }
    }
    Ok(())
}

fn file(
    found: Found,
    destination: PathBuf,
    kind: FileKind,
    capability: Capabilities,
    wanted: Capabilities,
) -> FileMount {
    FileMount {
        source: found.path,
        destination: Place::Path(destination),
        kind,
        why: capability.and(wanted).names().join(", "),
    }
}
