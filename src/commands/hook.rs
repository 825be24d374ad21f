//! `gpurun hook`.

use anyhow::Result;
use clap::Args;

use crate::container::as_hook::{self, Called};

/// Do the work of a CDI file's hook, called by another runtime with the container's state on stdin.
#[derive(Debug, Args)]
pub struct Hook {
    /// The command and its options, such as `update-ldcache --folder DIR`
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Hook {
    /// Does it.
    ///
    /// # Errors
    /// See [`as_hook::run`].
    pub fn run(self) -> Result<()> {
        // Switches before the command are about logging.
        let words = self.words.into_iter().skip_while(|word| word.starts_with('-')).collect();
        as_hook::run(&Called { words })
    }
}
