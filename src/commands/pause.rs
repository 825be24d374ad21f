//! `gpurun pause` and `gpurun resume`.

use anyhow::Result;
use clap::Args;

use crate::cli::Global;
use crate::container::pause;

/// Freeze a container.
#[derive(Debug, Args)]
pub struct Pause {
    /// The container's id
    id: String,
}

/// Thaw a container.
#[derive(Debug, Args)]
pub struct Resume {
    /// The container's id
    id: String,
}

impl Pause {
    /// Freezes it.
    ///
    /// # Errors
    /// It does not run.
    pub fn run(self, global: &Global) -> Result<()> {
        pause::pause(&super::load(global, &self.id)?)
    }
}

impl Resume {
    /// Thaws it.
    ///
    /// # Errors
    /// It is not paused.
    pub fn run(self, global: &Global) -> Result<()> {
        pause::resume(&super::load(global, &self.id)?)
    }
}
