//! AMD: the variable, the order of the GPUs, the nodes.
//!
//! What belongs here: everything that knows AMD's names. The rules are those of AMD's own
//! container runtime (ROCm/container-toolkit): the user-space libraries come from the image, so a
//! GPU is its DRM nodes and `/dev/kfd`, which all of them share.
//!
//! | file | holds |
//! |---|---|
//! | [`wish`] | what the variables ask for |
//! | [`topology`] | what the compute driver (KFD) lists |
//! | [`gpus`] | the GPUs and partitions, in the order of their indexes |
//! | [`select`] | from ids to GPUs |
//! | [`tracker`] | AMD's list of who has which GPU |
//! | [`hooks`] | AMD's hook |
//! | [`inventory`] | the GPUs for lists |

pub mod config;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod gpus;
pub mod hooks;
pub mod inventory;
pub mod select;
pub mod topology;
pub mod tracker;
pub mod wish;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use self::config::Config;
use self::error::Error;
use self::gpus::Gpu;
use self::wish::{AmdWish, DEVICES_VARIABLE, Item};
use super::absorb::HookPrograms;
use super::error::GpuError;
use super::inventory::Device;
use super::plan::{Grant, Plan};
use super::register::Registers;
use super::request::Asked;
use super::variables::ByVariable;
use super::vendor::{Summary, Vendor, Wish};
use super::{drm, nodes};
use crate::host::{Host, Settings};

/// The CDI kind of a GPU, as `amd-ctk cdi generate` writes it.
const KIND: &str = "amd.com/gpu";

/// The vendor.
#[derive(Debug, Clone, Copy)]
pub struct Amd;

impl Vendor for Amd {
    fn name(&self) -> &'static str {
        config::SECTION
    }

    fn check(&self, settings: &Settings) -> Result<(), GpuError> {
        Config::read(settings)?;
        Ok(())
    }

    fn variables(&self) -> &'static [&'static str] {
        &[DEVICES_VARIABLE, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
    }

    fn read(
        &self,
        asked: &Asked<'_>,
        _settings: Option<&Settings>,
    ) -> Result<Vec<Box<dyn Wish>>, GpuError> {
        let counted = |wish: AmdWish| {
            let is_all = Item::is_all(&wish.devices);
            ByVariable::boxed(wish, is_all, asked)
        };
        Ok(AmdWish::read(asked).map(counted).into_iter().collect())
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[KIND]
    }

    fn inventory(&self, _settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError> {
        Ok(inventory::read(host)?)
    }

    fn native(
        &self,
        _kind: &'static str,
        devices: Vec<String>,
        _asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError> {
        Ok(Box::new(AmdWish::named(devices)))
    }

    fn hook_programs(&self) -> Option<&dyn HookPrograms> {
        Some(self)
    }

    fn registers(&self) -> Option<&dyn Registers> {
        Some(self)
    }
}

impl Wish for AmdWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: config::SECTION.into(),
            source: self.source.clone(),
            devices: self.devices.clone(),
            capabilities: Vec::new(),
        }
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        Ok(resolve(self, &Config::read(settings)?, host, plan)?)
    }
}

fn resolve(wish: &AmdWish, config: &Config, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let gpus = match gpus::read(host) {
        // Whoever set the variable may have meant another vendor's resource.
        Err(Error::DriverNotLoaded { .. }) if wish.is_guess => {
            plan.notes.push(format!("{}: no AMD GPU on this machine", wish.source));
            return Ok(());
        }
        gpus => gpus?,
    };
    let selected = select::select(wish, &gpus, &mut plan.notes)?;
    if selected.is_empty() {
        return Ok(());
    }
    let first_node = plan.devices.len();
    for (gpu, asked_as) in &selected {
        let why = format!("GPU {}, asked for as {asked_as}", gpu.index);
        drm::add(host, &gpu.directory, &gpu.nodes, &why, plan)?;
        plan.grants.push(grant(gpu, asked_as));
    }
    let kfd =
        nodes::of_sysfs(host, topology::DIRECTORY, "kfd", "compute, for all GPUs".to_owned())?
            .ok_or_else(|| Error::NoKfd { path: host.sys.at(topology::DIRECTORY).join("dev") })?;
    nodes::add(kfd, plan);
    // As by AMD's runtime: devices that CDI names ask for are not tracked.
    if let Some(file) = config.tracker.as_deref().filter(|_| !wish.strict) {
        let granted = selected.iter().map(|(gpu, _)| gpu.index).collect();
        tracker::add(file, &gpus, granted, plan)?;
    }
    if config.additional_gids {
        nodes::join_groups(first_node, plan);
    }
    Ok(())
}

fn grant(gpu: &Gpu, asked_as: &str) -> Grant {
    Grant {
        kind: KIND.to_owned(),
        index: gpu.index,
        uuid: gpu.unique_id.clone().unwrap_or_default(),
        bus_id: gpu.address.to_string(),
        model: gpu.model.clone().unwrap_or_default(),
        part: gpu.partition.as_ref().map(ToString::to_string),
        asked_as: asked_as.to_owned(),
    }
}
