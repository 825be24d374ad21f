//! The `[amd]` table of the configuration file.

use std::path::PathBuf;

use super::tracker;
use crate::gpu::nodes;
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "amd";

/// The settings, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether the container's user joins the groups of the nodes (`video`, `render`).
    pub additional_gids: bool,
    /// The file of AMD's GPU tracker, unless it does not count.
    pub tracker: Option<PathBuf>,
}

impl Config {
    /// Reads the table.
    ///
    /// # Errors
    /// An unknown key or a wrong value.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let mut section = settings.section(SECTION)?;
        let tracker = match section.string("gpu-tracker")? {
            None => Some(tracker::FILE.into()),
            Some("none") => None,
            Some(path) if path.starts_with('/') => Some(path.into()),
            Some(_) => return Err(section.reject("gpu-tracker", "an absolute path, or none")),
        };
        let config = Self { tracker, additional_gids: nodes::additional_gids(&mut section)? };
        section.finish()?;
        Ok(config)
    }
}
