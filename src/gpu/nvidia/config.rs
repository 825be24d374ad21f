//! The `[nvidia]` table of the configuration file.

use std::path::PathBuf;

use super::capabilities::Capabilities;
use super::{policy, toolkit_config};
use crate::gpu::nodes;
use crate::gpu::variables::Terms;
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "nvidia";

/// Where a Tegra's system software has its lists.
const CSV_DIRECTORY: &str = "/etc/nvidia-container-runtime/host-files-for-container.d";

/// How the variables begin in which Docker Swarm names the resources of a task. Only where one is
/// set does the configuration have to be asked for `swarm-resource`.
pub const SWARM_PREFIX: &str = "DOCKER_RESOURCE_";

/// What an unmet `NVIDIA_REQUIRE_…` leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmet {
    /// The variables are not read.
    Ignored,
    /// A note; the container starts.
    Noted,
    /// An error.
    Fatal,
}

/// The settings, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the driver's user-space files are: `/`, or the root of a driver container.
    pub driver_root: PathBuf,
    /// Directories below the driver root to look for libraries in before the well-known ones.
    pub library_paths: Vec<PathBuf>,
    /// Directories below the driver root to look for programs in before the well-known ones.
    pub binary_paths: Vec<PathBuf>,
    /// On what terms variables count.
    pub variables: Terms,
    /// Whether mounts below `/var/run/nvidia-container-devices` name devices.
    pub accept_mounts: bool,
    /// Variables that take the place of `NVIDIA_VISIBLE_DEVICES` where one of them is set.
    pub swarm_resource: Vec<String>,
    /// Whether IMEX channels are given to those who ask for them.
    pub imex_channels: bool,
    /// Where the pipes of the multi-process service are, when not in the default place.
    pub mps_pipe_directory: Option<PathBuf>,
    /// The shared memory of the multi-process service.
    pub mps_shm_directory: Option<PathBuf>,
    /// What an unmet `NVIDIA_REQUIRE_…` leads to.
    pub unmet: Unmet,
    /// The capabilities that a container can have.
    pub supported: Capabilities,
    /// Whether the container's user joins the group of a device node that is not for everyone.
    pub additional_gids: bool,
    /// Whether missing kernel modules are loaded.
    pub load_modules: bool,
    /// Whether the image's newer CUDA libraries may take the place of the driver's.
    pub cuda_compatibility: bool,
    /// The lists of files of a Tegra.
    pub csv_directory: PathBuf,
    /// The image's compatibility libraries on a Tegra, where they are not in the usual place.
    pub csv_compatibility: Option<PathBuf>,
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
        let swarm_resource: Vec<String> = section
            .string("swarm-resource")?
            .unwrap_or_default()
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        if swarm_resource.iter().any(|name| !name.starts_with(SWARM_PREFIX)) {
            return Err(section.reject(
                "swarm-resource",
                "a list of variables whose names begin with DOCKER_RESOURCE_, as Docker sets them",
            ));
        }
        let disable_require = section.boolean("disable-require")?.unwrap_or(false);
        let unmet = match section.string("unmet-requirements")? {
            _ if disable_require => Unmet::Ignored,
            None | Some("note") => Unmet::Noted,
            Some("error") => Unmet::Fatal,
            Some(_) => return Err(section.reject("unmet-requirements", "note or error")),
        };
        let is_disabled = section.boolean("disable-cuda-compat-lib-hook")?.unwrap_or(false);
        let cuda_compatibility = match section.string("cuda-compat-mode")? {
            // NVIDIA's ways to bring the libraries in; here there is one.
            None | Some("auto" | "ldconfig" | "mount" | "hook") => !is_disabled,
            Some("disabled") => false,
            Some(_) => return Err(section.reject("cuda-compat-mode", "auto or disabled")),
        };
        let config = Self {
            cuda_compatibility,
            driver_root: section.absolute_path("driver-root")?.unwrap_or_else(|| "/".into()),
            library_paths: section.absolute_paths("library-paths")?.unwrap_or_default(),
            binary_paths: section.absolute_paths("binary-paths")?.unwrap_or_default(),
            variables: Terms::read(&mut section, &policy::ORIGIN)?,
            accept_mounts: section
                .boolean("accept-nvidia-visible-devices-as-volume-mounts")?
                .unwrap_or(false),
            swarm_resource,
            imex_channels: !section.boolean("ignore-imex-channel-requests")?.unwrap_or(false),
            unmet,
            mps_pipe_directory: section.absolute_path("mps-pipe-directory")?,
            mps_shm_directory: section.absolute_path("mps-shm-directory")?,
            supported,
            additional_gids: nodes::additional_gids(&mut section)?,
            load_modules: section.boolean("load-kmods")?.unwrap_or(true),
            csv_directory: section
                .absolute_path("csv-directory")?
                .unwrap_or_else(|| CSV_DIRECTORY.into()),
            csv_compatibility: section.absolute_path("csv-compat-directory")?,
        };
        // Read by whoever opened the file.
        section.string(toolkit_config::KEY)?;
        section.finish()?;
        Ok(config)
    }
}
