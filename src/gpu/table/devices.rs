//! The devices of a vendor of the table.

use std::path::PathBuf;

use super::entry::Entry;
use crate::gpu::pci::{Address, Function};
use crate::gpu::plan::Plan;
use crate::gpu::{drm, nodes};
use crate::host::{Host, HostError};

/// What lists PCI functions, below sys.
pub const PCI_DEVICES: &str = "bus/pci/devices";

/// One device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Where it is on the PCI bus, for a vendor whose devices are found there.
    pub address: Option<Address>,
}

/// The devices by index.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host, entry: &Entry) -> Result<Vec<Device>, HostError> {
    if let Some(vendor) = &entry.pci_vendor {
        return on_the_bus(host, vendor);
    }
    let Some(pattern) = entry.devices.first() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for name in host.dev.names(pattern.directory())? {
        if let Some(index) = pattern.index(&name)
            && nodes::of_host(host, &pattern.with(index), String::new())?.is_some()
        {
            found.push(Device { index, address: None });
        }
    }
    found.sort_by_key(|one| one.index);
    found.dedup();
    Ok(found)
}

/// The PCI functions of this maker that have DRM nodes, in the order of the bus.
fn on_the_bus(host: &Host, vendor: &str) -> Result<Vec<Device>, HostError> {
    let mut addresses = Vec::new();
    for name in host.sys.names(PCI_DEVICES)? {
        let function = Function::read(host, &format!("{PCI_DEVICES}/{name}"))?;
        if let Some(function) = function.filter(|function| function.vendor == vendor)
            && !drm::names(host, &drm::directory(function.address))?.is_empty()
        {
            addresses.push(function.address);
        }
    }
    addresses.sort_unstable();
    let device = |(index, address)| Device { index, address: Some(address) };
    Ok((0..).zip(addresses).map(device).collect())
}

impl Device {
    /// Adds the device's nodes, of those beyond the first the ones that the machine has.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn add(
        &self,
        entry: &Entry,
        host: &Host,
        why: &str,
        plan: &mut Plan,
    ) -> Result<(), HostError> {
        if let Some(address) = self.address {
            let directory = drm::directory(address);
            drm::add(host, &directory, &drm::names(host, &directory)?, why, plan)?;
            drm::add_links(host, address, why, plan)?;
        }
        for pattern in &entry.devices {
            if let Some(node) = nodes::of_host(host, &pattern.with(self.index), why.to_owned())? {
                nodes::add(node, plan);
            }
        }
        Ok(())
    }

    /// The paths of its nodes.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn paths(&self, entry: &Entry, host: &Host) -> Result<Vec<PathBuf>, HostError> {
        let mut plan = Plan::default();
        self.add(entry, host, "", &mut plan)?;
        Ok(plan.devices.into_iter().map(|node| node.destination).collect())
    }
}
