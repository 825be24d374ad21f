//! Every read of the machine: `/proc`, `/sys`, `/dev`, the driver's files and gpurun's own
//! configuration file.
//!
//! What belongs here: opening and reading, below roots that the configuration (or a test) can
//! point elsewhere. What does not: what the bytes mean to a vendor (`crate::gpu`), and anything
//! of a container's rootfs (`crate::init::root`).

pub mod cache;
pub mod config;
pub mod elf;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod glob;
pub mod modules;
pub mod predecessor;
pub mod program;
pub mod tree;
pub mod trust;

#[cfg(test)]
pub(crate) mod testing;

use std::path::{Path, PathBuf};

pub use cache::Cache;
pub use config::{ConfigError, Settings};
pub use modules::Modules;
pub use tree::{HostError, Status, Tree};

/// The name of the configuration file's table that this room reads.
pub const SECTION: &str = "host";

/// The machine, as three directory trees.
#[derive(Debug)]
pub struct Host {
    /// `/proc`.
    pub proc: Tree,
    /// `/sys`.
    pub sys: Tree,
    /// `/dev`.
    pub dev: Tree,
    /// How kernel modules are loaded.
    pub modules: Modules,
    /// Where answers of the machine's programs are kept.
    pub cache: Cache,
}

impl Host {
    /// Opens the trees that `[host]` names.
    pub fn from_settings(settings: &Settings) -> Result<Self, MachineError> {
        let mut section = settings.section(SECTION)?;
        let proc = section.absolute_path("proc")?;
        let sys = section.absolute_path("sys")?;
        let dev = section.absolute_path("dev")?;
        let modprobe = section.absolute_path("modprobe")?;
        let cache = section.absolute_path("cache")?;
        section.finish()?;
        let cache = match (cache, &proc) {
            (Some(own), _) => Cache::At(own),
            (None, None) => Cache::Usual,
            (None, Some(_)) => Cache::None,
        };
        // The modules of this machine have nothing to do with another one's list of devices.
        let modules = match proc.is_none() || modprobe.is_some() {
            true => Modules::find(modprobe),
            false => Modules::None,
        };
        let or = |path: Option<PathBuf>, default: &str| path.unwrap_or_else(|| default.into());
        let host = Self::at(or(proc, "/proc"), or(sys, "/sys"), or(dev, "/dev"))?;
        Ok(Self { modules, cache, ..host })
    }

    /// Opens the trees at these directories; no module is loaded for them, and nothing is
    /// kept.
    pub fn at(
        proc: impl AsRef<Path>,
        sys: impl AsRef<Path>,
        dev: impl AsRef<Path>,
    ) -> Result<Self, HostError> {
        Ok(Self {
            proc: Tree::open(proc.as_ref())?,
            sys: Tree::open(sys.as_ref())?,
            dev: Tree::open(dev.as_ref())?,
            modules: Modules::None,
            cache: Cache::None,
        })
    }
}

/// Why the machine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A root could not be opened.
    #[error(transparent)]
    Host(#[from] HostError),
}
