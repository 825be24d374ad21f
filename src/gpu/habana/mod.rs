//! Habana (Intel Gaudi): the variable, the nodes.
//!
//! What belongs here: everything that knows Habana's names. Two things of Habana's runtime are
//! not done here: all devices for a container that does not ask, and moving network interfaces
//! into the container, which is left to `habana-container-hook`: an engine or a CDI file puts it
//! into the spec, and it is run as any hook.

pub mod config;
pub mod devices;
pub mod error;
pub mod inventory;

#[cfg(test)]
mod tests;

use std::path::Path;

use self::config::Config;
use self::devices::Gaudi;
use self::error::Error;
use super::error::GpuError;
use super::inventory::Device;
use super::nodes;
use super::plan::{Grant, Plan};
use super::request::{self, Asked, Selection};
use super::variables::ByVariable;
use super::vendor::{Summary, Vendor, Wish};
use crate::host::{Host, Settings};

/// The CDI kind, as Intel's generator and DRA driver write it.
const KIND: &str = "intel.com/gaudi";

/// The variable that names the devices.
const DEVICES_VARIABLE: &str = "HABANA_VISIBLE_DEVICES";

/// The vendor.
#[derive(Debug, Clone, Copy)]
pub struct Habana;

impl Vendor for Habana {
    fn name(&self) -> &'static str {
        config::SECTION
    }

    fn check(&self, settings: &Settings) -> Result<(), GpuError> {
        Config::read(settings)?;
        Ok(())
    }

    fn variables(&self) -> &'static [&'static str] {
        &[DEVICES_VARIABLE]
    }

    fn read(
        &self,
        asked: &Asked<'_>,
        _settings: Option<&Settings>,
    ) -> Result<Vec<Box<dyn Wish>>, GpuError> {
        let Some(value) = asked.variable(DEVICES_VARIABLE) else {
            return Ok(Vec::new());
        };
        let devices = match Selection::parse(value) {
            None | Some(Selection::None) => return Ok(Vec::new()),
            Some(devices) => devices,
        };
        let source = format!("{DEVICES_VARIABLE}={value}");
        let is_all = devices == Selection::All;
        let wish = HabanaWish { devices, strict: false, source };
        Ok(vec![ByVariable::boxed(wish, is_all, asked)])
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[KIND]
    }

    fn inventory(&self, _settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError> {
        Ok(inventory::read(host)?)
    }

    fn is_gpu_node(&self, path: &Path) -> bool {
        devices::is_node(path)
    }

    fn native(
        &self,
        _kind: &'static str,
        devices: Vec<String>,
        _asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError> {
        let source = format!("CDI devices {}", devices.join(","));
        let devices = match devices.iter().any(|name| name == "all") {
            true => Selection::All,
            false => Selection::Ids(devices),
        };
        Ok(Box::new(HabanaWish { devices, strict: true, source }))
    }
}

/// A request for Gaudi devices.
#[derive(Debug)]
struct HabanaWish {
    devices: Selection,
    /// Whether an id that no device has is an error, not a note.
    strict: bool,
    source: String,
}

impl Wish for HabanaWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: config::SECTION.into(),
            source: self.source.clone(),
            devices: self.devices.words(),
            capabilities: Vec::new(),
        }
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        Ok(resolve(self, &Config::read(settings)?, host, plan)?)
    }
}

fn resolve(wish: &HabanaWish, config: &Config, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let all = devices::read(host)?;
    if all.is_empty() {
        return Err(Error::NoDevice { class: host.sys.at("class/accel") });
    }
    let mut selected: Vec<(&Gaudi, &str)> = Vec::new();
    match &wish.devices {
        Selection::None => {}
        Selection::All => selected.extend(all.iter().map(|one| (one, "all"))),
        Selection::Ids(ids) => {
            let mut unknown: Vec<&str> = Vec::new();
            for id in ids {
                match all.iter().find(|one| one.is_called(id)) {
                    Some(one) if selected.iter().any(|(known, _)| known.number == one.number) => {}
                    Some(one) => selected.push((one, id)),
                    None if wish.strict => {
                        return Err(Error::Unknown { id: id.clone(), present: present(&all) });
                    }
                    None => unknown.push(id),
                }
            }
            if !unknown.is_empty() {
                plan.notes.push(format!(
                    "{}: ignored, because there is no such Gaudi device on this machine: {}; there \
                     is {}",
                    wish.source,
                    request::quoted(&unknown),
                    present(&all)
                ));
            }
        }
    }
    let first_node = plan.devices.len();
    for (one, asked_as) in selected {
        devices::add(host, one, asked_as, config.uverbs, plan)?;
        plan.grants.push(Grant {
            kind: KIND.to_owned(),
            index: one.number,
            uuid: String::new(),
            bus_id: one.function.address.to_string(),
            model: one.model.clone(),
            part: None,
            asked_as: asked_as.to_owned(),
        });
    }
    if config.additional_gids {
        nodes::join_groups(first_node, plan);
    }
    Ok(())
}

fn present(all: &[Gaudi]) -> String {
    let names = all.iter().map(|one| format!("{} ({})", one.number, one.function.machine_name()));
    names.collect::<Vec<_>>().join(", ")
}
