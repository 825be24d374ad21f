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
    /// What the vendor's tools identify it by, where that was asked for ([`identify`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The nodes that it has besides those of its GPU.
    pub nodes: Vec<PathBuf>,
}

/// Ids of parts of GPUs that only a program of the vendor's knows. To run it takes seconds, and it
/// may fail: nobody does who is not asked for such an id.
pub trait PartIds {
    /// Whether this has the form of such an id.
    fn is_id(&self, id: &str) -> bool;

    /// Fills in [`Part::uuid`] of the vendor's devices among these.
    ///
    /// # Errors
    /// Why the program gives no answer.
    fn identify(
        &self,
        settings: &Settings,
        host: &Host,
        devices: &mut [Device],
    ) -> Result<(), GpuError>;
}

/// Whether this has the form of an id by which [`identify`] may know a part.
#[must_use]
pub fn is_part_id(id: &str) -> bool {
    VENDORS.iter().filter_map(|vendor| vendor.part_ids()).any(|ids| ids.is_id(id))
}

/// Asks the vendors' programs for the ids of the parts of these devices, if there are parts.
///
/// # Errors
/// Why a program gives no answer; the others are asked all the same.
pub fn identify(settings: &Settings, host: &Host, devices: &mut [Device]) -> Result<(), GpuError> {
    if devices.iter().all(|device| device.parts.is_empty()) {
        return Ok(());
    }
    let mut result = Ok(());
    for ids in VENDORS.iter().filter_map(|vendor| vendor.part_ids()) {
        result = result.and(ids.identify(settings, host, devices));
    }
    result
}

/// What could be read of the machine.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The devices of every vendor whose driver is loaded, by vendor and index.
    pub devices: Vec<Device>,
    /// The vendors whose devices could not be read, and why not.
    pub failures: Vec<Failure>,
}

/// Devices that could not be read.
#[derive(Debug)]
pub struct Failure {
    /// The vendor's name.
    pub vendor: &'static str,
    /// A driver's files that cannot be read, or a configuration that is wrong.
    pub error: GpuError,
}

/// Reads what can be read: what is wrong with one vendor's files hides no other's devices.
#[must_use]
pub fn read(settings: &Settings, host: &Host) -> Inventory {
    let mut all = Inventory::default();
    for vendor in VENDORS {
        match vendor.inventory(settings, host) {
            Ok(devices) => all.devices.extend(devices),
            Err(error) => all.failures.push(Failure { vendor: vendor.name(), error }),
        }
    }
    all
}

/// What the kernel says of a PCI function: the NUMA node, `None` where it has none.
#[must_use]
pub fn numa_node(host: &Host, address: super::pci::Address) -> Option<u32> {
    let path = format!("bus/pci/devices/{address}/numa_node");
    host.sys.read_text(path, 64).ok().flatten()?.trim().parse().ok()
}
