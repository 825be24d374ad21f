//! `gpurun start`.

use anyhow::Result;
use clap::Args;

use crate::cli::Global;
use crate::container::start;
use crate::log;

/// Run the program of a created container.
#[derive(Debug, Args)]
pub struct Start {
    /// The container's id
    id: String,
}

impl Start {
    /// Starts it.
    ///
    /// # Errors
    /// It does not wait for a start.
    pub fn run(self, global: &Global) -> Result<()> {
        let container = super::load(global, &self.id)?;
        for failed in start::start(&container)? {
            log::warn(failed);
        }
        Ok(())
    }
}
