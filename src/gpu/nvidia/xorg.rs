//! The driver's two X server modules, for display.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::capabilities::Capabilities;
use super::driver::Driver;
use super::error::Error;
use crate::gpu::plan::{FileKind, FileMount, Link, Place, Plan};

/// Below a library directory.
const BESIDE_LIBRARIES: [&str; 3] =
    ["nvidia/xorg", "xorg/modules/drivers", "xorg/modules/extensions"];

/// Below the driver's root.
const WELL_KNOWN: [&str; 5] = [
    "usr/lib/xorg/modules/drivers",
    "usr/lib/xorg/modules/extensions",
    "usr/lib64/xorg/modules/drivers",
    "usr/lib64/xorg/modules/extensions",
    // Debian.
    "usr/lib/nvidia/current",
];

/// Adds the first of each module that is found, at the path where it was found.
pub fn add(driver: &Driver, wanted: Capabilities, plan: &mut Plan) -> Result<(), Error> {
    if !wanted.any(Capabilities::DISPLAY) {
        return Ok(());
    }
    let beside = driver
        .directories
        .iter()
        .flat_map(|known| BESIDE_LIBRARIES.iter().map(|place| known.relative.join(place)));
    let places: Vec<PathBuf> = beside.chain(WELL_KNOWN.iter().map(PathBuf::from)).collect();
    let glx = format!("libglxserver_nvidia.so.{}", driver.version);
    for name in ["nvidia_drv.so", &glx] {
        for place in &places {
            let Some(found) = driver.tree.find(place.join(name))? else {
                continue;
            };
            if found.status.kind != FileType::RegularFile {
                continue;
            }
            let directory = Path::new("/").join(place);
            plan.files.push(FileMount {
                source: found.path,
                destination: Place::Path(directory.join(name)),
                // Loaded by path: it has no place in the loader's cache.
                kind: FileKind::Binary,
                why: "X server module".to_owned(),
            });
            if name == glx {
                plan.links.push(Link {
                    destination: Place::Path(directory.join("libglxserver_nvidia.so")),
                    target: name.into(),
                    why: "X server module".to_owned(),
                });
            }
            break;
        }
    }
    Ok(())
}
