//! What a vendor's folder implements, and the list of vendors.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Spec};
use serde::Serialize;

use super::absorb::Substitute;
use super::checkup::{self, Machine};
use super::error::GpuError;
use super::inventory::Device;
use super::plan::Plan;
use super::register::Register;
use super::request::Asked;
use super::{amd, habana, intel, nvidia, table};
use crate::finding::Finding;
use crate::host::predecessor::Predecessor;
use crate::host::{Host, Settings};

/// Every vendor that gpurun knows.
pub static VENDORS: &[&dyn Vendor] =
    &[&nvidia::Nvidia, &amd::Amd, &intel::Intel, &habana::Habana, &table::Table];

/// One maker of GPUs.
pub trait Vendor: Sync {
    /// The vendor's name, which is also its table in the configuration file.
    fn name(&self) -> &'static str;

    /// Whether the vendor's table of the configuration file can be used.
    fn check(&self, settings: &Settings) -> Result<(), GpuError>;

    /// The variables that select this vendor's devices, on the machine or among those that the
    /// container has.
    fn variables(&self) -> &'static [&'static str];

    /// Whether the spec holds something that is a wish or not as the configuration has it. Where
    /// this is false, the configuration is not opened to read the wish.
    fn needs_settings(&self, asked: &Asked<'_>) -> bool;

    /// The vendor's wishes in the spec: none or one, and of a vendor that stands for several one
    /// each. The machine is not looked at. `settings`: `None` where nothing needs them.
    fn read(
        &self,
        asked: &Asked<'_>,
        settings: Option<&Settings>,
    ) -> Result<Vec<Box<dyn Wish>>, GpuError>;

    /// What to say when this program is started under `name`, if that is the name of a hook of
    /// the vendor's that engines look for before they offer their GPU options.
    fn impersonated(&self, _name: &str) -> Option<&'static str> {
        None
    }

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
    fn absorbs(&self, _hook: &Hook) -> Option<Box<dyn Substitute>> {
        None
    }

    /// The same for a hook that is run after the container's end.
    fn absorbs_at_end(&self, _hook: &Hook) -> Option<Box<dyn Substitute>> {
        None
    }

    /// Enters a container in a list of this vendor's tools that a plan names.
    fn enter(&self, _register: &Register, _container: &str) -> Result<(), GpuError> {
        Ok(())
    }

    /// Strikes a container off such a list.
    fn leave(&self, _register: &Register, _container: &str) -> Result<(), GpuError> {
        Ok(())
    }

    /// The CDI kinds whose devices gpurun can give without a CDI file.
    fn kinds(&self) -> &'static [&'static str];

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

    /// The configuration file of the vendor's own runtime, which fills in what gpurun's does not
    /// set.
    fn predecessor(&self) -> Option<&'static Predecessor> {
        None
    }

    /// Whether the container has had the vendor's devices injected already, by an engine or by
    /// another runtime around this one.
    fn is_injected(&self, _asked: &Asked<'_>) -> bool {
        false
    }

    /// The wish for these devices of one of [`Vendor::kinds`], by the names that they have in CDI
    /// files.
    fn native(
        &self,
        kind: &'static str,
        devices: Vec<String>,
        asked: &Asked<'_>,
    ) -> Result<Box<dyn Wish>, GpuError>;

    /// The wish for one device of this kind and for all that the vendor's driver has to offer with
    /// it, for a CDI file: nobody knows what the containers that will use the file are for.
    fn everything(&self, kind: &'static str, device: String) -> Result<Box<dyn Wish>, GpuError> {
        self.native(kind, vec![device], &Asked::of(&Spec::default()))
    }

    /// Directories of the machine, the innermost first, whose files have the same paths without
    /// them in a container: the driver's roots.
    fn roots(&self, _settings: &Settings) -> Result<Vec<PathBuf>, GpuError> {
        Ok(Vec::new())
    }

    /// What a part of a GPU is called in front of its name, as `mig` in `mig0:1`.
    fn part_word(&self) -> &'static str {
        "part"
    }

    /// The hooks that do at a container's start what of the plan depends on the container or on
    /// the moment (`masks`, `filters`, `generated`, `compatibility`), each a command of
    /// [`Vendor::hook_commands`] with its options. They come before the entry in the loader's cache.
    fn hooks(&self, _plan: &Plan) -> Vec<Vec<String>> {
        Vec::new()
    }

    /// The commands of the vendor's hooks that gpurun carries out when another runtime calls it.
    fn hook_commands(&self) -> &'static [&'static str] {
        &[]
    }

    /// The names of the vendor's program for hooks, under which gpurun may be started as well.
    fn hook_programs(&self) -> &'static [&'static str] {
        &[]
    }
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
    pub vendor: Cow<'static, str>,
    /// Where the wish was found, such as `NVIDIA_VISIBLE_DEVICES=all`.
    pub source: String,
    /// The devices as asked: `all`, `none` or ids.
    pub devices: Vec<String>,
    /// The driver capabilities, for a vendor that has them.
    pub capabilities: Vec<&'static str>,
}
