//! NVIDIA: the variables, the driver's files, the device nodes.
//!
//! What belongs here: everything that knows NVIDIA's names and numbers. NVML is not used: what it
//! would say stands in `/proc/driver/nvidia`, in `/sys` and in the ELF files, and reading those
//! neither wakes a GPU up nor loads a library. The one exception is a MIG device that is named by
//! its UUID ([`mig_uuids`]).

pub mod capabilities;
pub mod caps;
pub mod checkup;
pub mod config;
pub mod describe;
pub mod driver;
pub mod drm;
pub mod error;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod gated;
pub mod gpus;
mod hook_options;
pub mod hooks;
pub mod host_cache;
pub mod imex;
pub mod inventory;
pub mod kernel;
pub mod libraries;
pub mod library_table;
pub mod loose;
pub mod management;
pub mod marker;
pub mod mig;
pub mod mig_uuids;
pub mod modules;
pub mod mps;
pub mod nodes;
pub mod params;
pub mod policy;
pub mod profile;
pub mod requirements;
pub mod select;
pub mod smi;
pub mod tegra;
pub mod toolkit_config;
pub mod trouble;
pub mod wish;
pub mod wsl;
pub mod xorg;

#[cfg(test)]
mod layouts;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trouble_tests;

use std::path::Path;

pub use error::Error;

use self::capabilities::Capabilities;
use self::config::{Config, Unmet};
use self::management::ManagementWish;
use self::wish::{AUTOMATIC_KIND, DEVICES_VARIABLE, NvidiaWish};
use super::absorb::HookPrograms;
use super::cdi::generate::Describe;
use super::cdi::wish::CdiWish;
use super::checkup::Machine;
use super::compatibility;
use super::error::GpuError;
use super::inventory::{Device, PartIds};
use super::nodes::join_groups;
use super::plan::{Compatibility, Grant, Plan};
use super::request::{Asked, Selection};
use super::toolkit::Toolkit;
use super::vendor::{Summary, Vendor, Wish};
use crate::finding::Finding;
use crate::host::{Host, Settings, Tree, elf};

/// The CDI kind of a GPU.
const KIND: &str = "nvidia.com/gpu";

/// The vendor.
#[derive(Debug, Clone, Copy)]
pub struct Nvidia;

impl Vendor for Nvidia {
    fn name(&self) -> &'static str {
        config::SECTION
    }

    fn check(&self, settings: &Settings) -> Result<(), GpuError> {
        Config::read(settings)?;
        Ok(())
    }

    fn variables(&self) -> &'static [&'static str] {
        &[DEVICES_VARIABLE, "CUDA_VISIBLE_DEVICES"]
    }

    fn needs_settings(&self, asked: &Asked<'_>) -> bool {
        wish::needs_settings(asked)
    }

    fn read(
        &self,
        asked: &Asked<'_>,
        settings: Option<&Settings>,
    ) -> Result<Vec<Box<dyn Wish>>, GpuError> {
        let config = settings.map(Config::read).transpose()?;
        let Some(wish) = NvidiaWish::read(asked, config.as_ref())? else {
            return Ok(Vec::new());
        };
        let Some(names) = wish.qualified_names() else {
            return Ok(vec![Box::new(wish)]);
        };
        let names = CdiWish::new(names, wish.source.clone(), asked)?;
        Ok(vec![Box::new(NamedWish { wish, names })])
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[KIND, AUTOMATIC_KIND, management::KIND]
    }

    fn inventory(&self, settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError> {
        let config = Config::read(settings)?;
        let is_loaded = kernel::loaded(host)?.is_some();
        if !is_loaded && wsl::is(host)? {
            return Ok(wsl::inventory(host));
        }
        if tegra::is(&config, host, is_loaded)? {
            let gpus = gpus::read(host).map_err(GpuError::from)?;
            return Ok(tegra::inventory(host, &gpus)?);
        }
        Ok(inventory::read(host)?)
    }

    fn is_gpu_node(&self, path: &Path) -> bool {
        let name = path.strip_prefix("/dev").ok().and_then(Path::to_str);
        name.is_some_and(|name| super::nodes::number(name, "nvidia").is_some() || name == wsl::NODE)
    }

    fn checkup(&self, machine: Machine<'_>) -> Vec<Finding> {
        checkup::run(machine)
    }

    fn is_injected(&self, asked: &Asked<'_>) -> bool {
        asked.variable(DEVICES_VARIABLE).is_some_and(wish::is_void)
    }

    fn native(
        &self,
        kind: &'static str,
        devices: Vec<String>,
        asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError> {
        let wish = NvidiaWish::named(&devices, asked)?;
        Ok(match kind {
            management::KIND => Box::new(ManagementWish::new(&devices, wish)?),
            _ => Box::new(wish),
        })
    }

    fn hook_programs(&self) -> Option<&dyn HookPrograms> {
        Some(self)
    }

    fn part_ids(&self) -> Option<&dyn PartIds> {
        Some(self)
    }

    fn toolkit(&self) -> Option<&'static Toolkit> {
        Some(&toolkit_config::TOOLKIT)
    }

    fn describe(&self) -> Option<&dyn Describe> {
        Some(self)
    }
}

/// Variables with CDI names in them.
#[derive(Debug)]
struct NamedWish {
    wish: NvidiaWish,
    names: CdiWish,
}

impl Wish for NamedWish {
    fn summary(&self) -> Summary {
        self.names.summary()
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        if self.wish.is_refused(&Config::read(settings)?, plan) {
            return Ok(());
        }
        self.names.resolve(settings, host, plan)
    }
}

impl Wish for NvidiaWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: config::SECTION.into(),
            source: self.source.clone(),
            devices: self.devices.words(),
            capabilities: self.capabilities.names(),
        }
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        let config = Config::read(settings)?;
        if self.is_refused(&config, plan) {
            return Ok(());
        }
        Ok(resolve(self, &config, host, plan)?)
    }
}

impl NvidiaWish {
    /// Whether the policy turns the wish down; noted then.
    fn is_refused(&self, config: &Config, plan: &mut Plan) -> bool {
        plan.notes.extend(self.notes.iter().cloned());
        let reason = policy::refusal(self, config);
        let is_refused = reason.is_some();
        plan.notes.extend(reason);
        is_refused
    }
}

/// The steps from a wish to the plan's entries, in order.
fn resolve(wish: &NvidiaWish, config: &Config, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let wanted = allowed(wish, config.supported)?;
    let administration = wish.besides.administration(wish.standing.privileged)?;
    let loaded = kernel::loaded(host)?;
    if loaded.is_none() && wsl::is(host)? {
        return wsl::resolve(wish, config, host, plan);
    }
    if tegra::is(config, host, loaded.is_some())? {
        return tegra::resolve(wish, config, host, &gpus::read(host)?, plan);
    }
    let version = kernel::version_in(loaded, host)?;
    let gpus = match wish.devices {
        Selection::None => Vec::new(),
        _ => gpus::read(host)?,
    };
    let uuids = mig_uuids::find(&wish.devices, &gpus, host, config, &version)?;
    let selected = select::select(&wish.devices, &gpus, &uuids, host, &version, &mut plan.notes)
        .map_err(|error| trouble::better(error, host))?;
    let selected = trouble::answering(selected, &wish.devices, host, &mut plan.notes)?;
    plan.grants.extend(selected.iter().map(|one| Grant {
        kind: KIND.to_owned(),
        index: one.index,
        uuid: one.gpu.uuid.clone().unwrap_or_default(),
        bus_id: one.gpu.address.to_string(),
        model: one.gpu.model.clone(),
        asked_as: one.asked_as.clone(),
        part: one.mig.map(|instance| instance.to_string()),
    }));

    if !selected.is_empty() {
        modules::ensure(host, wanted, config, &mut plan.notes)?;
    }
    let first_node = plan.devices.len();
    nodes::add(host, &selected, wanted, plan)?;
    caps::add(host, &selected, administration, plan)?;
    // The DRM nodes are those of the whole GPU.
    let whole: Vec<_> = selected.iter().filter(|one| one.mig.is_none()).cloned().collect();
    drm::add(host, &whole, wanted, plan)?;
    if let Some(channels) = imex::counted(wish, config, plan) {
        imex::add(host, &channels, plan)?;
    }
    for feature in gated::counted(wish, config, plan) {
        gated::add(host, &Tree::open(&config.driver_root)?, feature, plan)?;
    }
    if config.additional_gids {
        join_groups(first_node, plan);
    }

    if wanted.any(Capabilities::GRAPHICS.or(Capabilities::DISPLAY)) {
        profile::add(&selected.iter().map(|one| one.minor).collect::<Vec<_>>(), plan);
    }
    let driver = user_space(wish, wanted, &version, config, host, plan)?;
    if driver.is_some() {
        let has_firmware = plan.files.iter().any(|file| file.why == files::FIRMWARE);
        plan.notes.extend(trouble::firmware_note(has_firmware, &selected, host));
    }
    if config.unmet != Unmet::Ignored {
        let needs_cuda = requirements::need_cuda(&wish.besides.requirements);
        let cuda = driver.as_ref().filter(|_| needs_cuda).and_then(cuda_version);
        let machine = requirements::Machine { driver: Some(version), cuda };
        requirements::check(&wish.besides.requirements, &machine, config.unmet, plan)?;
    }
    plan.masks.extend(params::mask(host)?);
    gpus::filter(host, selected.iter().map(|one| one.gpu), plan)?;
    // What CDI and hence NVIDIA's runtime in its default mode leave in the container. It keeps a
    // second NVIDIA runtime or hook that sees this environment from giving the GPUs once more.
    plan.env.push((DEVICES_VARIABLE.to_owned(), "void".to_owned()));
    Ok(())
}

/// Adds the driver's libraries, programs and other files. `None`: the container wants none.
fn user_space(
    wish: &NvidiaWish,
    wanted: Capabilities,
    version: &str,
    config: &Config,
    host: &Host,
    plan: &mut Plan,
) -> Result<Option<driver::Driver>, Error> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let driver = driver::locate(Tree::open(&config.driver_root)?, version, wanted, config)?;
    libraries::add(&driver, wanted, plan)?;
    files::add(&driver, host, wanted, config, plan)?;
    xorg::add(&driver, wanted, plan)?;
    if wanted.any(Capabilities::COMPUTE) {
        mps::add(&driver.tree, config, wish.besides.names_mps_pipes, plan)?;
        plan.compatibility = config.cuda_compatibility.then(|| Compatibility {
            directory: compatibility::DIRECTORY.into(),
            host_driver: Some(version.to_owned()),
            host_cuda: None,
        });
    }
    Ok(Some(driver))
}

/// The version of CUDA that the driver's libcuda names in its ELF note, which not every one has.
fn cuda_version(driver: &driver::Driver) -> Option<String> {
    let name = format!("libcuda.so.{}", driver.version);
    let mut files =
        driver.directories.iter().filter_map(|place| place.directory.open_regular(&name));
    let note = elf::section(files.next()?, compatibility::SECTION, compatibility::LONGEST_NOTE)?;
    let note = compatibility::Note::from_section(&note)?;
    (!note.cuda().is_empty()).then(|| note.cuda().to_owned())
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
