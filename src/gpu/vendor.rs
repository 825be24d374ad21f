//! What a vendor's folder implements, and the list of vendors.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::absorb::HookPrograms;
use super::cdi::generate::Describe;
use super::checkup::{self, Machine};
use super::error::GpuError;
use super::inventory::{Device, PartIds};
use super::plan::Plan;
use super::register::Registers;
use super::request::Asked;
use super::toolkit::Toolkit;
use super::{amd, habana, intel, nvidia, table};
use crate::finding::Finding;
use crate::host::{Host, Settings};

/// Every vendor that gpurun knows.
pub static VENDORS: &[&dyn Vendor] =
    &[&nvidia::Nvidia, &amd::Amd, &intel::Intel, &habana::Habana, &table::Table];

/// One maker of GPUs: what containers ask of it, what the machine has of it, and the parts that
/// only some vendors have.
pub trait Vendor: Sync {
    /// The vendor's name, which is also its table in the configuration file.
    fn name(&self) -> &'static str;

    /// Whether the vendor's table of the configuration file can be used.
    fn check(&self, settings: &Settings) -> Result<(), GpuError>;

    // What containers ask for. The machine is not looked at.

    /// The variables that select this vendor's devices, on the machine or among those that the
    /// container has.
    fn variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the spec holds something that is a wish or not as the configuration has it. Where
    /// this is false, the configuration is not opened to read the wish.
    fn needs_settings(&self, _asked: &Asked<'_>) -> bool {
        false
    }

    /// The vendor's wishes in the spec: none or one, and of a vendor that stands for several one
    /// each. `settings`: `None` where nothing needs them.
    fn read(
        &self,
        _asked: &Asked<'_>,
        _settings: Option<&Settings>,
    ) -> Result<Vec<Box<dyn Wish>>, GpuError> {
        Ok(Vec::new())
    }

    /// The CDI kinds whose devices gpurun can give without a CDI file.
    fn kinds(&self) -> &'static [&'static str] {
        &[]
    }

    /// The wish for these devices of one of [`Vendor::kinds`], by the names that they have in CDI
    /// files.
    fn native(
        &self,
        kind: &'static str,
        devices: Vec<String>,
        asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError>;

    /// Whether the container has had the vendor's devices injected already, by an engine or by
    /// another runtime around this one.
    fn is_injected(&self, _asked: &Asked<'_>) -> bool {
        false
    }

    // What the machine has.

    /// The vendor's devices on this machine, in the order of their indexes; none where its driver
    /// is not loaded.
    fn inventory(&self, settings: &Settings, host: &Host) -> Result<Vec<Device>, GpuError>;

    /// Whether a device node of this path is that of one GPU, and no control node: whoever has it
    /// has the GPU. Nodes below `/dev/dri` and `/dev/accel` are known for every vendor.
    fn is_gpu_node(&self, _path: &Path) -> bool {
        false
    }

    /// How well the vendor's devices and driver are, for `doctor`; nothing where there are none.
    fn checkup(&self, machine: Machine<'_>) -> Vec<Finding> {
        checkup::devices(self, machine)
    }

    // What only some vendors have.

    /// Its programs for hooks, whose work gpurun does itself.
    fn hook_programs(&self) -> Option<&dyn HookPrograms> {
        None
    }

    /// Its tools' lists of who has which GPU.
    fn registers(&self) -> Option<&dyn Registers> {
        None
    }

    /// Its program that knows ids of parts of GPUs which the driver's files do not show.
    fn part_ids(&self) -> Option<&dyn PartIds> {
        None
    }

    /// Its own container toolkit, whose place gpurun takes on a machine.
    fn toolkit(&self) -> Option<&'static Toolkit> {
        None
    }

    /// What a CDI file needs to know beyond a request for each device.
    fn describe(&self) -> Option<&dyn Describe> {
        None
    }
}

/// One vendor's part of a request.
pub trait Wish: fmt::Debug {
    /// What was asked for, for `explain`.
    fn summary(&self) -> Summary;

    /// Why nobody may have these devices for the container, whether a CDI file has them or the
    /// machine itself, for the log. `None`: there is no reason.
    fn refusal(&self, _settings: &Settings) -> Result<Option<String>, GpuError> {
        Ok(None)
    }

    /// Adds to the plan what the wish leads to on this machine. A wish that the configured policy
    /// turns down adds only a note.
    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError>;
}

/// A wish in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The vendor's name.
    pub vendor: Cow<'static, str>,
    /// Where the wish was found, such as `NVIDIA_VISIBLE_DEVICES=all`.
    pub source: String,
    /// The devices as asked: `all`, `none` or ids.
    pub devices: Vec<String>,
    /// The driver capabilities, for a vendor that has them.
    pub capabilities: Vec<&'static str>,
}
