//! The DRM nodes of a GPU (`/dev/dri/card0`, `/dev/dri/renderD128`), for graphics.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::capabilities::Capabilities;
use super::error::Error;
use super::select::Selected;
use crate::gpu::pci::Address;
use crate::gpu::plan::{DeviceKind, DeviceNode, Link, Place, Plan};
use crate::host::Host;

/// The kernel's default mode of DRM nodes when no udev rule says otherwise.
const MODE: u32 = 0o666;

/// Adds each GPU's DRM nodes and its links in `/dev/dri/by-path`.
pub fn add(
    host: &Host,
    selected: &[Selected<'_>],
    wanted: Capabilities,
    plan: &mut Plan,
) -> Result<(), Error> {
    if !wanted.any(Capabilities::GRAPHICS.or(Capabilities::DISPLAY)) {
        return Ok(());
    }
    for one in selected {
        let address = one.gpu.address;
        let directory = directory(address);
        let mut given = Vec::new();
        for name in names(host, address)? {
            let why = format!("DRM node of GPU {}", one.index);
            match node(host, &directory, &name, why)? {
                Some(node) => {
                    plan.devices.push(node);
                    given.push(name);
                }
                None => plan.notes.push(format!(
                    "{} is listed in {} but has no numbers: left out",
                    name,
                    host.sys.at(&directory).display()
                )),
            }
        }
        for kind in ["card", "render"] {
            let link = format!("dri/by-path/pci-{address}-{kind}");
            let Some(target) = host.dev.link(&link)? else {
                continue;
            };
            let leads_to_one = target
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| given.iter().any(|known| known == name));
            if leads_to_one {
                plan.links.push(Link {
                    destination: Place::Path(Path::new("/dev").join(link)),
                    target,
                    why: format!("DRM node of GPU {}", one.index),
                });
            }
        }
    }
    Ok(())
}

fn directory(address: Address) -> String {
    format!("bus/pci/devices/{address}/drm")
}

/// The names of a GPU's DRM nodes in `/dev/dri`.
pub fn names(host: &Host, address: Address) -> Result<Vec<String>, Error> {
    let mut names = host.sys.names(directory(address))?;
    names.retain(|name| is_drm_name(name));
    Ok(names)
}

/// `card`, `renderD` or `controlD` and a number; `sys` also lists connectors there.
fn is_drm_name(name: &str) -> bool {
    ["card", "renderD", "controlD"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

fn node(
    host: &Host,
    directory: &str,
    name: &str,
    why: String,
) -> Result<Option<DeviceNode>, Error> {
    let numbers = host.sys.read_text(format!("{directory}/{name}/dev"), 64)?;
    let numbers = numbers.as_deref().and_then(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let path = format!("dri/{name}");
    let status = host.dev.link_status(&path)?.filter(|status| {
        status.kind == FileType::CharacterDevice
            && numbers.is_none_or(|numbers| numbers == (status.major, status.minor))
    });
    let Some((major, minor)) = numbers.or(status.map(|status| (status.major, status.minor))) else {
        return Ok(None);
    };
    Ok(Some(DeviceNode {
        destination: PathBuf::from("/dev").join(&path),
        host_path: status.map(|_| host.dev.at(&path)),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: status.map_or(MODE, |status| status.mode & 0o777),
        uid: 0,
        gid: status.map_or(0, |status| status.gid),
        access: "rwm".to_owned(),
        why,
    }))
}
