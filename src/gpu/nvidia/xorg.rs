//! The driver's two X server modules, for display.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::capabilities::Capabilities;
use super::driver::Driver;
use super::error::Error;
use crate::gpu::plan::{FileKind, FileMount, Link, Place, Plan};

/// Below a library directory.
const BESIDE_LIBRARIES: [&str; 2] = ["nvidia/xorg", "xorg"];

/// The X server's directories, below the driver's root.
const SERVERS: [&str; 4] = ["usr/lib/xorg", "usr/lib64/xorg", "usr/X11R6/lib", "usr/X11R6/lib64"];

/// Where a server's directory has modules.
const MODULES: [&str; 4] = [
    "modules/drivers",
    "modules/extensions",
    "modules/updates/drivers",
    "modules/updates/extensions",
];

/// Debian's own place for them.
const DEBIAN: &str = "usr/lib/nvidia/current";

/// Adds the first of each module that is found, at the path where it was found.
pub fn add(driver: &Driver, wanted: Capabilities, plan: &mut Plan) -> Result<(), Error> {
    if !wanted.any(Capabilities::DISPLAY) {
        return Ok(());
    }
    let places = places(driver)?;
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

/// The directories that can have modules, in order of preference. Few machines have many.
fn places(driver: &Driver) -> Result<Vec<PathBuf>, Error> {
    let beside = driver
        .directories
        .iter()
        .flat_map(|known| BESIDE_LIBRARIES.iter().map(|place| known.relative.join(place)));
    let mut places: Vec<PathBuf> = Vec::new();
    for place in beside.chain(SERVERS.iter().map(PathBuf::from)) {
        if driver.tree.status(&place)?.is_none() {
            continue;
        }
        places.extend(MODULES.iter().map(|modules| place.join(modules)));
        places.push(place);
    }
    places.push(DEBIAN.into());
    Ok(places)
}
