//! AMD's GPUs, for lists of what the machine has.
//!
//! A GPU that is partitioned has no index: each of its partitions has one, and the unique id,
//! which means all of them, is its name.

use std::path::PathBuf;

use super::KIND;
use super::error::Error;
use super::gpus::{self, Gpu};
use crate::gpu::inventory::{self, Device, Part};
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
    let mut devices: Vec<Device> = Vec::new();
    for gpu in gpus {
        let bus_id = gpu.address.to_string();
        let part = part(&gpu);
        // The partitions of one GPU follow one another.
        match (devices.last_mut(), part) {
            (Some(last), Some(part)) if last.bus_id.as_ref() == Some(&bus_id) => {
                last.parts.push(part);
            }
            (_, part) => {
                let mut device = device(gpu, &driver, host);
                device.parts.extend(part);
                devices.push(device);
            }
        }
    }
    Ok(devices)
}

fn device(gpu: Gpu, driver: &str, host: &Host) -> Device {
    let is_whole = gpu.partition.is_none();
    let bus_id = gpu.address.to_string();
    Device {
        kind: KIND.into(),
        name: match (is_whole, &gpu.unique_id) {
            (true, _) => gpu.index.to_string(),
            (false, Some(id)) => id.clone(),
            (false, None) => bus_id.clone(),
        },
        nodes: if is_whole { nodes(&gpu) } else { Vec::new() },
        uuid: gpu.unique_id,
        bus_id: Some(bus_id),
        model: gpu.model,
        driver: Some(driver.to_owned()),
        numa_node: inventory::numa_node(host, gpu.address),
        ..Device::default()
    }
}

/// `None`: it is no part, but all of a GPU.
fn part(gpu: &Gpu) -> Option<Part> {
    let what = gpu.partition.as_ref()?.to_string();
    Some(Part { name: gpu.index.to_string(), what, uuid: None, nodes: nodes(gpu) })
}

fn nodes(gpu: &Gpu) -> Vec<PathBuf> {
    gpu.nodes.iter().map(|name| PathBuf::from("/dev/dri").join(name)).collect()
}
