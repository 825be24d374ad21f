//! The `[habana]` table of the configuration file.

use crate::gpu::nodes;
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "habana";

/// The settings, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether a device's InfiniBand node comes with it.
    pub uverbs: bool,
    /// Whether the container's user joins the groups of the nodes.
    pub additional_gids: bool,
}

impl Config {
    /// Reads the table.
    ///
    /// # Errors
    /// An unknown key or a wrong value.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let mut section = settings.section(SECTION)?;
        let config = Self {
            uverbs: section.boolean("mount-uverbs")?.unwrap_or(false),
            additional_gids: nodes::additional_gids(&mut section)?,
        };
        section.finish()?;
        Ok(config)
    }
}
