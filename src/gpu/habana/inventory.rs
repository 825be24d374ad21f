//! Gaudi devices, for lists of what the machine has.

use std::path::PathBuf;

use super::error::Error;
use super::{KIND, devices};
use crate::gpu::inventory::{self, Device};
use crate::host::Host;

/// Every device.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host) -> Result<Vec<Device>, Error> {
    let device = |one: devices::Gaudi| {
        let [(directory, _), _] = one.nodes();
        let version = host.sys.read_text(format!("{directory}/device/driver_ver"), 256)?;
        let driver = one.function.driver.clone().unwrap_or_else(|| "habanalabs".to_owned());
        let nodes = one.nodes().map(|(_, name)| PathBuf::from("/dev").join(name));
        Ok(Device {
            kind: KIND.into(),
            name: one.number.to_string(),
            bus_id: Some(one.function.address.to_string()),
            model: Some(one.model),
            driver: Some(match version.as_deref().map(str::trim) {
                Some(version) if !version.is_empty() => format!("{driver} {version}"),
                _ => driver,
            }),
            numa_node: inventory::numa_node(host, one.function.address),
            nodes: nodes.into(),
            ..Device::default()
        })
    };
    devices::read(host)?.into_iter().map(device).collect()
}
