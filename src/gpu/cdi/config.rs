//! The `[cdi]` table of the configuration file.

use std::path::PathBuf;

use super::{annotations, registry};
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "cdi";

/// The settings, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directories with CDI files, lowest priority first.
    pub dirs: Vec<PathBuf>,
    /// How the annotations that carry names begin.
    pub prefixes: Vec<String>,
}

impl Config {
    /// Reads the table.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let mut section = settings.section(SECTION)?;
        let default = || registry::DEFAULT_DIRS.map(PathBuf::from).to_vec();
        let dirs = section.absolute_paths("spec-dirs")?.unwrap_or_else(default);
        let prefixes = section.strings("annotation-prefixes")?;
        let config = Self {
            dirs,
            prefixes: match prefixes {
                Some(list) => list.into_iter().map(str::to_owned).collect(),
                None => vec![annotations::PREFIX.to_owned()],
            },
        };
        section.finish()?;
        Ok(config)
    }
}
