//! `gpurun delete`.

use anyhow::Result;
use clap::Args;

use crate::cli::Global;
use crate::container::delete;
use crate::container::id::ContainerId;
use crate::log;

/// Remove a container.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill it first if it runs
    #[arg(short, long)]
    force: bool,
    /// The container's id
    id: String,
}

impl Delete {
    /// Removes it.
    ///
    /// # Errors
    /// It runs, or does not exist.
    pub fn run(self, global: &Global) -> Result<()> {
        let id = ContainerId::parse(&self.id)?;
        for left in delete::delete(&super::root::store(global)?, &id, self.force)? {
            log::warn(log::one_line(&left));
        }
        Ok(())
    }
}
