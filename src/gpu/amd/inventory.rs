//! AMD's GPUs, for lists of what the machine has. A partition is a device of its own, because it
//! has an index of its own.

use std::path::PathBuf;

use super::KIND;
use super::error::Error;
use super::gpus::{self, Gpu};
use crate::gpu::inventory::{self, Device};
use crate::host::Host;

/// The version of a driver that does not come with the kernel, below sys.
const VERSION: &str = "module/amdgpu/version";

/// Every GPU; none where the driver is not loaded.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host) -> Result<Vec<Device>, Error> {
    let gpus = match gpus::read(host) {
        Err(Error::DriverNotLoaded { .. }) => return Ok(Vec::new()),
        gpus => gpus?,
    };
    let version = host.sys.read_text(VERSION, 256)?;
    let driver = match version.as_deref().map(str::trim) {
        Some(version) if !version.is_empty() => format!("amdgpu {version}"),
        _ => "amdgpu".to_owned(),
    };
    Ok(gpus.into_iter().map(|gpu| device(gpu, &driver, host)).collect())
}

fn device(gpu: Gpu, driver: &str, host: &Host) -> Device {
    let model = match (&gpu.model, &gpu.partition) {
        (Some(model), Some(partition)) => Some(format!("{model}, {partition}")),
        (None, Some(partition)) => Some(partition.to_string()),
        (model, None) => model.clone(),
    };
    Device {
        kind: KIND.into(),
        name: gpu.index.to_string(),
        uuid: gpu.unique_id,
        bus_id: Some(gpu.address.to_string()),
        model,
        driver: Some(driver.to_owned()),
        numa_node: inventory::numa_node(host, gpu.address),
        nodes: gpu.nodes.iter().map(|name| PathBuf::from("/dev/dri").join(name)).collect(),
        ..Device::default()
    }
}
