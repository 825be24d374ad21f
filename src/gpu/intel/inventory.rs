//! Intel's GPUs and NPUs, for lists of what the machine has.

use std::path::PathBuf;

use super::error::Error;
use super::{Found, GPU, NPU, gpus, model, npus};
use crate::gpu::inventory::{self, Device};
use crate::host::Host;

/// Every GPU, then every NPU.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host) -> Result<Vec<Device>, Error> {
    let mut devices = Vec::new();
    for one in gpus::read(host)? {
        let nodes = gpus::nodes(host, &one)?;
        let nodes = nodes.iter().map(|name| PathBuf::from("/dev/dri").join(name)).collect();
        devices.push(device(GPU, one, nodes, host));
    }
    for one in npus::read(host)? {
        let nodes = vec![PathBuf::from("/dev/accel").join(&one.name)];
        devices.push(device(NPU, one, nodes, host));
    }
    Ok(devices)
}

fn device(kind: &'static str, one: Found, nodes: Vec<PathBuf>, host: &Host) -> Device {
    Device {
        kind: kind.into(),
        bus_id: Some(one.function.address.to_string()),
        model: Some(model(&one)),
        numa_node: inventory::numa_node(host, one.function.address),
        driver: one.function.driver,
        name: one.name,
        nodes,
        ..Device::default()
    }
}
