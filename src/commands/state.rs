//! `gpurun state`.

use anyhow::{Context, Result};
use clap::Args;

use super::output;
use crate::cli::Global;

/// Print the state of a container as JSON.
#[derive(Debug, Args)]
pub struct State {
    /// The container's id
    id: String,
}

impl State {
    /// Prints it.
    ///
    /// # Errors
    /// There is no such container.
    pub fn run(self, global: &Global) -> Result<()> {
        let container = super::load(global, &self.id)?;
        let report = container.report(container.status());
        let text = serde_json::to_string_pretty(&report).context("cannot print the state")?;
        output::print(&format!("{text}\n"))
    }
}
