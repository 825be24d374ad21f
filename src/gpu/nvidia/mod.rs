//! NVIDIA: the variables, the driver's files, the device nodes.
//!
//! What belongs here: everything that knows NVIDIA's names and numbers. NVML is not used: what it
//! would say stands in `/proc/driver/nvidia`, in `/sys` and in the ELF files, and reading those
//! neither wakes a GPU up nor loads a library.

pub mod capabilities;
pub mod config;
pub mod driver;
pub mod drm;
pub mod error;
pub mod files;
pub mod gpus;
pub mod kernel;
pub mod libraries;
pub mod library_table;
pub mod nodes;
pub mod params;
pub mod select;
pub mod wish;
pub mod xorg;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::Error;

use self::capabilities::Capabilities;
use self::config::Config;
use self::wish::{DEVICES_VARIABLE, NvidiaWish};
use super::error::GpuError;
use super::plan::{Grant, Plan};
use super::request::{Asked, Selection};
use super::vendor::{Summary, Vendor, Wish};
use crate::host::{Host, Settings, Tree};

/// The CDI kind of a GPU.
const KIND: &str = "nvidia.com/gpu";

/// The programs whose hooks gpurun replaces: dockerd's `--gpus` and OCI hook directories run the
/// first, older packages name it as the second.
const HOOKS: [&str; 2] = ["nvidia-container-runtime-hook", "nvidia-container-toolkit"];

/// The vendor.
#[derive(Debug, Clone, Copy)]
pub struct Nvidia;

impl Vendor for Nvidia {
    fn name(&self) -> &'static str {
        config::SECTION
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Option<Box<dyn Wish>>, GpuError> {
        Ok(NvidiaWish::read(asked)?.map(|wish| Box::new(wish) as Box<dyn Wish>))
    }

    fn impersonated(&self, name: &str) -> Option<&'static str> {
        HOOKS.contains(&name).then_some(
            "nvidia-container-runtime-hook: this is gpurun, which gives containers their GPUs \
             without hooks: start the container with gpurun as its runtime (docker run --runtime \
             gpurun --gpus ...)",
        )
    }

    fn absorbs(&self, hook: &Path) -> Option<&'static str> {
        let name = hook.file_name()?.to_str()?;
        HOOKS.contains(&name).then_some("gpurun gives the GPUs itself")
    }
}

impl Wish for NvidiaWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: config::SECTION,
            source: self.source.clone(),
            devices: self.devices.words(),
            capabilities: self.capabilities.names(),
        }
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        let config = Config::read(settings)?;
        if !self.privileged && !config.accept_unprivileged {
            plan.notes.push(format!(
                "{}: ignored, because the container is not privileged and \
                 accept-nvidia-visible-devices-envvar-when-unprivileged is false",
                self.source
            ));
            return Ok(());
        }
        Ok(resolve(self, &config, host, plan)?)
    }
}

/// The steps from a wish to the plan's entries, in order.
fn resolve(wish: &NvidiaWish, config: &Config, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let wanted = allowed(wish, config.supported)?;
    let version = kernel::version(host)?;
    let gpus = match wish.devices {
        Selection::None => Vec::new(),
        _ => gpus::read(host)?,
    };
    let selected = select::select(&wish.devices, &gpus, host, &version, &mut plan.notes)?;
    plan.grants.extend(selected.iter().map(|one| Grant {
        kind: KIND.to_owned(),
        index: one.index,
        uuid: one.gpu.uuid.clone().unwrap_or_default(),
        bus_id: one.gpu.address.to_string(),
        model: one.gpu.model.clone(),
        asked_as: one.asked_as.clone(),
    }));

    let first_node = plan.devices.len();
    nodes::add(host, &selected, wanted, plan)?;
    drm::add(host, &selected, wanted, plan)?;
    if config.additional_gids {
        let gids: Vec<u32> =
            plan.devices.iter().skip(first_node).filter_map(nodes::group_needed).collect();
        for gid in gids {
            if !plan.gids.contains(&gid) {
                plan.gids.push(gid);
            }
        }
    }

    if !wanted.is_empty() {
        let root = Tree::open(&config.driver_root)?;
        let driver = driver::locate(root, &version, wanted, config)?;
        libraries::add(&driver, wanted, plan)?;
        files::add(&driver, host, wanted, config, plan)?;
        xorg::add(&driver, wanted, plan)?;
    }
    plan.masks.extend(params::mask(host)?);
    // What CDI and hence NVIDIA's runtime in its default mode leave in the container. It keeps a
    // second NVIDIA runtime or hook that sees this environment from giving the GPUs once more.
    plan.env.push((DEVICES_VARIABLE.to_owned(), "void".to_owned()));
    Ok(())
}

/// The capabilities wanted, cut down to what the configuration allows. A capability that was
/// asked for by name is not left out silently.
fn allowed(wish: &NvidiaWish, supported: Capabilities) -> Result<Capabilities, Error> {
    let lost = wish.capabilities.without(supported);
    if wish.named_capabilities && !lost.is_empty() {
        return Err(Error::UnsupportedCapability {
            lost: lost.names().join(", "),
            allowed: supported.names().join(","),
        });
    }
    Ok(wish.capabilities.and(supported))
}
