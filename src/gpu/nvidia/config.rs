//! The `[nvidia]` table of the configuration file.

use std::path::PathBuf;

use super::capabilities::Capabilities;
use super::toolkit_config;
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "nvidia";

/// The settings, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the driver's user-space files are: `/`, or the root of a driver container.
    pub driver_root: PathBuf,
    /// Directories below the driver root to look for libraries in before the well-known ones.
    pub library_paths: Vec<PathBuf>,
    /// Directories below the driver root to look for programs in before the well-known ones.
    pub binary_paths: Vec<PathBuf>,
    /// Whether the variables of a container without `CAP_SYS_ADMIN` count.
    pub accept_unprivileged: bool,
    /// The capabilities that a container can have.
    pub supported: Capabilities,
    /// Whether the container's user joins the group of a device node that is not for everyone.
    pub additional_gids: bool,
    /// Whether missing kernel modules are loaded.
    pub load_modules: bool,
}

impl Config {
    /// Reads the table.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let mut section = settings.section(SECTION)?;
        let supported = match section.string("supported-driver-capabilities")? {
            None => Capabilities::ALL,
            Some(list) => Capabilities::parse(list).map_err(|_| {
                section.reject(
                    "supported-driver-capabilities",
                    "a list of compute, compat32, graphics, utility, video, display, ngx, or all",
                )
            })?,
        };
        let config = Self {
            driver_root: section.absolute_path("driver-root")?.unwrap_or_else(|| "/".into()),
            library_paths: section.absolute_paths("library-paths")?.unwrap_or_default(),
            binary_paths: section.absolute_paths("binary-paths")?.unwrap_or_default(),
            accept_unprivileged: section
                .boolean("accept-nvidia-visible-devices-envvar-when-unprivileged")?
                .unwrap_or(true),
            supported,
            additional_gids: !section
                .boolean("no-additional-gids-for-device-nodes")?
                .unwrap_or(false),
            load_modules: section.boolean("load-kmods")?.unwrap_or(true),
        };
        // Read by whoever opened the file.
        section.string(toolkit_config::KEY)?;
        section.finish()?;
        Ok(config)
    }
}
