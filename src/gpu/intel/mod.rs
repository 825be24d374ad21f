//! Intel: GPUs (i915, xe) and NPUs.
//!
//! What belongs here: everything that knows Intel's names. There is no variable by which
//! containers ask for them, only the CDI names that Intel's generator gives:
//! `intel.com/gpu=card0`, `intel.com/npu=accel0`, and for each also address and product
//! (`0000-0f-00-0-0x56c0`), which no reboot changes. The user-space libraries come from the image.

pub mod config;
pub mod error;
pub mod gpus;
pub mod inventory;
pub mod npus;

#[cfg(test)]
mod tests;

use self::config::Config;
use self::error::Error;
use super::error::GpuError;
use super::inventory::Device;
use super::pci::Function;
use super::plan::{Grant, Plan};
use super::request::Asked;
use super::vendor::{Summary, Vendor, Wish};
use super::{accel, nodes};
use crate::host::{Host, Settings};

/// The CDI kinds.
const GPU: &str = "intel.com/gpu";
const NPU: &str = "intel.com/npu";

/// Intel's number among the makers of PCI devices.
const PCI_VENDOR: &str = "0x8086";

/// The vendor.
#[derive(Debug, Clone, Copy)]
pub struct Intel;

impl Vendor for Intel {
    fn name(&self) -> &'static str {
        config::SECTION
    }

    fn check(&self, settings: &Settings) -> Result<(), GpuError> {
        Config::read(settings)?;
        Ok(())
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[GPU, NPU]
    }

    fn inventory(&self, _settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError> {
        Ok(inventory::read(host)?)
    }

    fn native(
        &self,
        kind: &'static str,
        devices: Vec<String>,
        _asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError> {
        Ok(Box::new(IntelWish { kind, devices }))
    }
}

/// A request by CDI names of one kind.
#[derive(Debug)]
struct IntelWish {
    kind: &'static str,
    devices: Vec<String>,
}

/// A GPU or NPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name that its driver gives it: `card0`, `accel0`.
    pub name: String,
    /// The number in that name.
    pub number: u32,
    /// The PCI function that it is.
    pub function: Function,
}

impl Wish for IntelWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: config::SECTION.into(),
            source: format!("CDI devices of {}", self.kind),
            devices: self.devices.clone(),
            capabilities: Vec::new(),
        }
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        Ok(resolve(self, &Config::read(settings)?, host, plan)?)
    }
}

fn resolve(wish: &IntelWish, config: &Config, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let found = match wish.kind {
        NPU => npus::read(host)?,
        _ => gpus::read(host)?,
    };
    let first_node = plan.devices.len();
    let mut given: Vec<&str> = Vec::new();
    for id in &wish.devices {
        let is_it =
            |one: &&Found| id == "all" || *id == one.name || *id == one.function.machine_name();
        let meant: Vec<&Found> = found.iter().filter(is_it).collect();
        if meant.is_empty() {
            return Err(Error::Unknown {
                name: format!("{}={id}", wish.kind),
                present: present(&found),
                modules: if wish.kind == NPU { "intel_vpu" } else { "i915 or xe" },
            });
        }
        for one in meant {
            if given.contains(&one.name.as_str()) {
                continue;
            }
            given.push(&one.name);
            let why = format!("{}, asked for as {id}", one.name);
            match wish.kind {
                NPU => npus::add(host, one, &why, plan)?,
                _ => gpus::add(host, one, &why, plan)?,
            }
            plan.grants.push(Grant {
                kind: wish.kind.to_owned(),
                index: one.number,
                uuid: String::new(),
                bus_id: one.function.address.to_string(),
                model: model(one),
                part: None,
                asked_as: id.clone(),
            });
        }
    }
    if config.additional_gids {
        nodes::join_groups(first_node, plan);
    }
    Ok(())
}

/// The drivers know no product names.
fn model(one: &Found) -> String {
    format!("Intel {}", one.function.numbers())
}

fn present(found: &[Found]) -> String {
    match found {
        [] => "none".to_owned(),
        _ => {
            let names =
                found.iter().map(|one| format!("{} ({})", one.name, one.function.machine_name()));
            names.collect::<Vec<_>>().join(", ")
        }
    }
}
