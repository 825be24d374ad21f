//! DRM nodes (`/dev/dri/card0`, `/dev/dri/renderD128`) and the links to them.

use std::path::Path;

use super::nodes;
use super::pci::Address;
use super::plan::{Link, Place, Plan};
use crate::host::{Host, HostError};

/// The directory of sysfs that lists the DRM nodes of a PCI function.
#[must_use]
pub fn directory(address: Address) -> String {
    format!("bus/pci/devices/{address}/drm")
}

/// The names of the DRM nodes in a directory of sysfs, as they are in `/dev/dri`, sorted.
///
/// # Errors
/// The directory cannot be read.
pub fn names(host: &Host, directory: &str) -> Result<Vec<String>, HostError> {
    let mut names = host.sys.names(directory)?;
    // sysfs also lists connectors there.
    names.retain(|name| {
        ["card", "renderD", "controlD"].iter().any(|prefix| nodes::number(name, prefix).is_some())
    });
    Ok(names)
}

/// Adds these nodes, which a directory of sysfs lists. One without numbers is noted.
///
/// # Errors
/// What cannot be read.
pub fn add(
    host: &Host,
    directory: &str,
    names: &[String],
    why: &str,
    plan: &mut Plan,
) -> Result<(), HostError> {
    for name in names {
        let numbers = format!("{directory}/{name}");
        match nodes::of_sysfs(host, &numbers, &format!("dri/{name}"), why.to_owned())? {
            Some(node) => nodes::add(node, plan),
            None => plan.notes.push(format!(
                "{name} is listed in {} but has no numbers: left out",
                host.sys.at(directory).display()
            )),
        }
    }
    Ok(())
}

/// Adds the links in `/dev/dri/by-path` of this PCI function, as links, where they lead to a node
/// that the container gets.
///
/// # Errors
/// What cannot be read.
pub fn add_links(
    host: &Host,
    address: Address,
    why: &str,
    plan: &mut Plan,
) -> Result<(), HostError> {
    for kind in ["card", "render"] {
        let link = format!("dri/by-path/pci-{address}-{kind}");
        let Some(target) = host.dev.link(&link)? else {
            continue;
        };
        let name = target.file_name().and_then(|name| name.to_str());
        let destination = Place::Path(Path::new("/dev").join(link));
        if name.is_some_and(|name| nodes::has(plan, &format!("dri/{name}")))
            && plan.links.iter().all(|known| known.destination != destination)
        {
            plan.links.push(Link { destination, target, why: why.to_owned() });
        }
    }
    Ok(())
}
