//! The GPUs of the machine, as the vendors' drivers show them, whoever asks for them.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::Serialize;

use super::error::GpuError;
use super::vendor::VENDORS;
use crate::host::{Host, Settings};

/// One GPU or other accelerator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The CDI kind by which containers ask for it, such as `nvidia.com/gpu`; the vendor's name
    /// where there is none.
    pub kind: Cow<'static, str>,
    /// The name after the kind, which is the vendor's index where it has one.
    pub name: String,
    /// What the vendor's tools identify it by, for all time: a UUID or unique id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The PCI bus id, such as `0000:65:00.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_id: Option<String>,
    /// The product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The kernel driver, with its version where it says one: `nvidia 535.261.03`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The NUMA node that it is attached to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Its own device nodes, without those that all of the vendor's GPUs share.
    pub nodes: Vec<PathBuf>,
    /// The parts that containers can have instead of the whole: MIG devices, partitions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Why no container can have it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A part of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The name after the kind by which it is asked for, such as `0:1`.
    pub name: String,
    /// What it is, such as `MIG device 1 (GI 2, CI 0)`: the text in [`super::plan::Grant::part`].
    pub what: String,
    /// The nodes that it has besides those of its GPU.
    pub nodes: Vec<PathBuf>,
}

/// The devices of every vendor whose driver is loaded, by vendor and index.
///
/// # Errors
/// A driver's files that cannot be read, or a configuration that is wrong.
pub fn read(settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError> {
    let mut devices = Vec::new();
    for vendor in VENDORS {
        devices.extend(vendor.inventory(settings, host)?);
    }
    Ok(devices)
}

/// What the kernel says of a PCI function: the NUMA node, `None` where it has none.
#[must_use]
pub fn numa_node(host: &Host, address: super::pci::Address) -> Option<u32> {
    let path = format!("bus/pci/devices/{address}/numa_node");
    host.sys.read_text(path, 64).ok().flatten()?.trim().parse().ok()
}
