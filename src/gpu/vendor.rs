//! What a vendor's folder implements, and the list of vendors.

use std::fmt;

use oci_spec::runtime::Hook;
use serde::Serialize;

use super::absorb::Substitute;
use super::error::GpuError;
use super::inventory::Device;
use super::nvidia;
use super::plan::Plan;
use super::request::Asked;
use crate::host::predecessor::Predecessor;
use crate::host::{Host, Settings};

/// Every vendor that gpurun knows.
pub static VENDORS: &[&dyn Vendor] = &[&nvidia::Nvidia];

/// One maker of GPUs.
pub trait Vendor: Sync {
    /// The vendor's name, which is also its table in the configuration file.
    fn name(&self) -> &'static str;

    /// Whether the spec holds something that is a wish or not as the configuration has it. Where
    /// this is false, the configuration is not opened to read the wish.
    fn needs_settings(&self, asked: &Asked<'_>) -> bool;

    /// The vendor's wish in the spec, if there is one. The machine is not looked at. `settings`:
    /// `None` where nothing needs them.
    fn read(
        &self,
        asked: &Asked<'_>,
        settings: Option<&Settings>,
    ) -> Result<Option<Box<dyn Wish>>, GpuError>;

    /// What to say when this program is started under `name`, if that is the name of a hook of
    /// the vendor's that engines look for before they offer their GPU options.
    fn impersonated(&self, name: &str) -> Option<&'static str>;

    /// The name of the hook of the vendor's that dockerd looks for before it offers `--gpus`.
    fn hook_name(&self) -> Option<&'static str> {
        None
    }

    /// How the variables begin by which the DaemonSets of the vendor's toolkit set their installer
    /// up.
    fn installer_prefix(&self) -> Option<&'static str> {
        None
    }

    /// What gpurun does instead of running this hook, if it is one whose work gpurun does itself.
    fn absorbs(&self, hook: &Hook) -> Option<Box<dyn Substitute>>;

    /// The CDI kind whose devices gpurun can give without a CDI file.
    fn kind(&self) -> &'static str;

    /// The vendor's devices on this machine, in the order of their indexes; none where its driver
    /// is not loaded.
    fn inventory(&self, settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError>;

    /// The configuration file of the vendor's own runtime, which fills in what gpurun's does not
    /// set.
    fn predecessor(&self) -> Option<&'static Predecessor> {
        None
    }

    /// Whether the container has had the vendor's devices injected already, by an engine or by
    /// another runtime around this one.
    fn is_injected(&self, asked: &Asked<'_>) -> bool;

    /// The wish for these devices of [`Vendor::kind`], by the names that they have in CDI files.
    fn native(&self, devices: Vec<String>, asked: &Asked<'_>) -> Result<Box<dyn Wish>, GpuError>;
}

/// One vendor's part of a request.
pub trait Wish: fmt::Debug {
    /// What was asked for, for `explain`.
    fn summary(&self) -> Summary;

    /// Adds to the plan what the wish leads to on this machine. A wish that the configured policy
    /// turns down adds only a note.
    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError>;
}

/// A wish in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The vendor's name.
    pub vendor: &'static str,
    /// Where the wish was found, such as `NVIDIA_VISIBLE_DEVICES=all`.
    pub source: String,
    /// The devices as asked: `all`, `none` or ids.
    pub devices: Vec<String>,
    /// The driver capabilities, for a vendor that has them.
    pub capabilities: Vec<&'static str>,
}
