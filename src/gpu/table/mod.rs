//! Vendors that are no more than a variable and names of nodes.
//!
//! What belongs here: the description of such a vendor ([`entry`]), those that are ready-made
//! ([`ready`]), and what every one of them does alike. None is enabled until the configuration
//! says so ([`config`]): gpurun does not guess that a variable means devices. Libraries, network
//! interfaces and virtual devices are beyond a table; they take a folder of their own.

pub mod config;
pub mod devices;
pub mod entry;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod ready;

#[cfg(test)]
mod tests;

use std::path::Path;

use self::config::Config;
use self::devices::Device as Found;
use self::entry::{Entry, Unknown};
use self::error::Error;
use super::error::GpuError;
use super::inventory::Device;
use super::nodes;
use super::plan::{Grant, Plan};
use super::request::{self, Asked, Selection};
use super::variables::ByVariable;
use super::vendor::{Summary, VENDORS, Vendor, Wish};
use crate::host::{Host, Settings};

/// The vendors of the configuration's table.
#[derive(Debug, Clone, Copy)]
pub struct Table;

impl Vendor for Table {
    fn name(&self) -> &'static str {
        config::SECTION
    }

    fn check(&self, settings: &Settings) -> Result<(), GpuError> {
        Config::read(settings)?;
        Ok(())
    }

    /// Whether a variable that is named like one that selects devices selects something, and no
    /// other vendor knows it. Only then does it matter which vendors are enabled.
    fn needs_settings(&self, asked: &Asked<'_>) -> bool {
        asked.environment().any(|(name, value)| {
            name.ends_with(entry::SUFFIX) && selection(value).is_some() && !is_known(name)
        })
    }

    fn read(
        &self,
        asked: &Asked<'_>,
        settings: Option<&Settings>,
    ) -> Result<Vec<Box<dyn Wish>>, GpuError> {
        let Some(settings) = settings else {
            return Ok(Vec::new());
        };
        let config = Config::read(settings)?;
        let mut wishes: Vec<Box<dyn Wish>> = Vec::new();
        for entry in config.entries {
            let value = asked.variable(&entry.variable);
            if let Some(devices) = value.and_then(selection) {
                let source = format!("{}={}", entry.variable, value.unwrap_or_default());
                let gids = config.additional_gids;
                let is_all = devices == Selection::All;
                let wish = TableWish { entry, devices, source, gids };
                wishes.push(ByVariable::boxed(wish, is_all, asked));
            }
        }
        Ok(wishes)
    }

    fn inventory(&self, settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError> {
        let mut all = Vec::new();
        for entry in Config::read(settings)?.entries {
            for found in devices::read(host, &entry).map_err(Error::from)? {
                all.push(Device {
                    kind: entry.name.clone().into(),
                    name: found.index.to_string(),
                    bus_id: found.address.map(|address| address.to_string()),
                    numa_node: found.address.and_then(|it| super::inventory::numa_node(host, it)),
                    nodes: found.paths(&entry, host).map_err(Error::from)?,
                    ..Device::default()
                });
            }
        }
        Ok(all)
    }

    /// Of the ready-made vendors, enabled or not: the configuration is not opened for a path.
    fn is_gpu_node(&self, path: &Path) -> bool {
        ready::is_node(path)
    }

    fn native(
        &self,
        kind: &'static str,
        _devices: Vec<String>,
        _asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError> {
        Err(Error::NoNames { kind }.into())
    }
}

/// What a list selects; `None`: nothing. Such a vendor has no driver files to give without a device.
fn selection(list: &str) -> Option<Selection> {
    Selection::parse(list).filter(|devices| *devices != Selection::None)
}

fn is_known(variable: &str) -> bool {
    VENDORS.iter().any(|vendor| vendor.variables().contains(&variable))
}

/// A request for devices of one vendor of the table.
#[derive(Debug)]
struct TableWish {
    entry: Entry,
    devices: Selection,
    source: String,
    gids: bool,
}

impl Wish for TableWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: self.entry.name.clone().into(),
            source: self.source.clone(),
            devices: self.devices.words(),
            capabilities: Vec::new(),
        }
    }

    fn resolve(&self, _settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        Ok(resolve(self, host, plan)?)
    }
}

fn resolve(wish: &TableWish, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let entry = &wish.entry;
    let all = devices::read(host, entry)?;
    if all.is_empty() {
        return Err(Error::NoDevice {
            source_of_wish: wish.source.clone(),
            vendor: entry.name.clone(),
            place: entry.place(host),
        });
    }
    let selected = select(wish, &all, plan)?;
    if selected.is_empty() {
        return Ok(());
    }
    let first_node = plan.devices.len();
    for (found, asked_as) in selected {
        let why = format!("{} {}, asked for as {asked_as}", entry.name, found.index);
        found.add(entry, host, &why, plan)?;
        plan.grants.push(Grant {
            kind: entry.name.clone(),
            index: found.index,
            uuid: String::new(),
            bus_id: found.address.map(|address| address.to_string()).unwrap_or_default(),
            model: String::new(),
            part: None,
            asked_as,
        });
    }
    for name in &entry.common {
        match nodes::of_host(host, name, format!("for all devices of {}", entry.name))? {
            Some(node) => nodes::add(node, plan),
            None => plan.notes.push(format!(
                "{} does not exist: left out of the nodes of {}",
                host.dev.at(name).display(),
                entry.name
            )),
        }
    }
    if wish.gids {
        nodes::join_groups(first_node, plan);
    }
    Ok(())
}

/// The devices that are meant, each once, in the order of the request.
fn select<'a>(
    wish: &TableWish,
    all: &'a [Found],
    plan: &mut Plan,
) -> Result<Vec<(&'a Found, String)>, Error> {
    let items = match &wish.devices {
        Selection::None => return Ok(Vec::new()),
        Selection::All if wish.entry.all => {
            return Ok(all.iter().map(|one| (one, "all".to_owned())).collect());
        }
        other => other.words(),
    };
    let no_such = |items: String| Error::Unknown {
        source_of_wish: wish.source.clone(),
        items,
        vendor: wish.entry.name.clone(),
        present: all.iter().map(|one| one.index.to_string()).collect::<Vec<_>>().join(","),
    };
    let mut unknown: Vec<String> = Vec::new();
    let mut selected: Vec<(&Found, String)> = Vec::new();
    for item in items {
        let indexes = wish.entry.indexes(&item);
        let known = |index: &u32| all.iter().find(|one| one.index == *index);
        let is_unknown =
            indexes.as_ref().is_none_or(|all| all.iter().any(|index| known(index).is_none()));
        if is_unknown {
            match wish.entry.unknown {
                Unknown::Error => return Err(no_such(format!("{item:?}"))),
                Unknown::Note => unknown.push(item.clone()),
            }
        }
        for one in indexes.iter().flatten().filter_map(known) {
            if selected.iter().all(|(given, _)| given.index != one.index) {
                selected.push((one, item.clone()));
            }
        }
    }
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        plan.notes.push(format!("{}; ignored", no_such(request::quoted(&unknown))));
    }
    Ok(selected)
}
