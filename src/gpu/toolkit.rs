//! The vendors' own container toolkits, whose place gpurun takes on a machine.

use super::vendor::VENDORS;
use crate::host::predecessor::Predecessor;

/// What of a toolkit engines, installers and administrators know.
#[derive(Debug)]
pub struct Toolkit {
    /// The names of its hook. Before it offers `--gpus`, dockerd looks for the first.
    pub hooks: &'static [&'static str],
    /// What to say when gpurun, under such a name, is started as the hook of another runtime.
    pub advice: &'static str,
    /// How the variables begin by which its DaemonSets set their installer up.
    pub installer_prefix: &'static str,
    /// Its runtime's configuration file, which fills in what gpurun's does not set.
    pub configuration: &'static Predecessor,
}

/// The toolkits that there are.
pub fn all() -> impl Iterator<Item = &'static Toolkit> {
    VENDORS.iter().filter_map(|vendor| vendor.toolkit())
}

/// The names of hooks that dockerd looks for before it offers `--gpus`.
pub fn docker_hooks() -> impl Iterator<Item = &'static str> {
    all().filter_map(|toolkit| toolkit.hooks.first().copied())
}

/// What to say when this program is started as a toolkit's hook under another runtime: the package
/// provides the hook's name so that engines offer their GPU options.
#[must_use]
pub fn impersonated(name: &str) -> Option<&'static str> {
    all().find(|toolkit| toolkit.hooks.contains(&name)).map(|toolkit| toolkit.advice)
}
