//! Intel's GPUs, as the kernel lists them in `/sys/class/drm`.

use super::error::Error;
use super::{Found, PCI_VENDOR};
use crate::gpu::pci::Function;
use crate::gpu::plan::Plan;
use crate::gpu::{drm, nodes};
use crate::host::{Host, HostError};

/// The class's directory, below sys.
const DIRECTORY: &str = "class/drm";

/// The GPUs by the numbers of their cards. One that is divided into virtual functions (SR-IOV) is
/// left out: its virtual functions are GPUs.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host) -> Result<Vec<Found>, HostError> {
    let mut found = Vec::new();
    for name in host.sys.names(DIRECTORY)? {
        let Some(number) = nodes::number(&name, "card") else {
            continue;
        };
        let device = format!("{DIRECTORY}/{name}/device");
        let function = Function::read(host, &device)?;
        let Some(function) = function.filter(|function| function.vendor == PCI_VENDOR) else {
            continue;
        };
        let virtual_functions = host.sys.read_text(format!("{device}/sriov_numvfs"), 64)?;
        let count = virtual_functions.and_then(|text| text.trim().parse::<u32>().ok());
        if count.unwrap_or(0) == 0 {
            found.push(Found { name, number, function });
        }
    }
    found.sort_by_key(|one| one.number);
    Ok(found)
}

/// The names of a GPU's nodes in `/dev/dri`.
///
/// # Errors
/// What cannot be read.
pub fn nodes(host: &Host, one: &Found) -> Result<Vec<String>, HostError> {
    let mut names = drm::names(host, &directory(one))?;
    names.retain(|name| !name.starts_with("control"));
    Ok(names)
}

/// Adds a GPU's nodes and the links to them.
///
/// # Errors
/// What cannot be read.
pub fn add(host: &Host, one: &Found, why: &str, plan: &mut Plan) -> Result<(), Error> {
    drm::add(host, &directory(one), &nodes(host, one)?, why, plan)?;
    drm::add_links(host, one.function.address, why, plan)?;
    Ok(())
}

fn directory(one: &Found) -> String {
    format!("{DIRECTORY}/{}/device/drm", one.name)
}
