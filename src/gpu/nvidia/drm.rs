//! The DRM nodes of a GPU (`/dev/dri/card0`, `/dev/dri/renderD128`), for graphics.

use super::capabilities::Capabilities;
use super::error::Error;
use super::select::Selected;
use crate::gpu::drm;
use crate::gpu::pci::Address;
use crate::gpu::plan::Plan;
use crate::host::Host;

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
        let why = format!("DRM node of GPU {}", one.index);
        drm::add(host, &drm::directory(address), &names(host, address)?, &why, plan)?;
        drm::add_links(host, address, &why, plan)?;
    }
    Ok(())
}

/// The names of a GPU's DRM nodes in `/dev/dri`.
pub fn names(host: &Host, address: Address) -> Result<Vec<String>, Error> {
    Ok(drm::names(host, &drm::directory(address))?)
}
