//! `gpurun kill`.

use anyhow::Result;
use clap::Args;

use crate::cli::Global;
use crate::container::kill;

/// Send a signal to a container.
#[derive(Debug, Args)]
pub struct Kill {
    /// To all processes of the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    id: String,
    /// The signal's name or number
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    signal: String,
}

impl Kill {
    /// Sends it.
    ///
    /// # Errors
    /// "container not running".
    pub fn run(self, global: &Global) -> Result<()> {
        let signal = kill::parse_signal(&self.signal)?;
        kill::kill(&super::load(global, &self.id)?, signal, self.all)
    }
}
