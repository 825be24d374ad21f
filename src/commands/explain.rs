//! `gpurun explain`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::output;
use crate::container::bundle::Bundle;
use crate::gpu;
use crate::gpu::explain::Alone;
use crate::paint::Paint;

const EXAMPLES: &str = "EXAMPLES:
   gpurun explain --bundle DIR
   gpurun explain --bundle DIR --json";

/// Print which GPUs and files a bundle would get, and why; nothing is started or changed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    /// Prints it.
    ///
    /// # Errors
    /// The bundle cannot be read, or the request cannot be met: the error of `create`.
    pub fn run(self) -> Result<()> {
        let mut bundle = Bundle::load(&self.bundle)?;
        let decision = gpu::explain_for(&mut bundle.spec)?;
        let alone = decision.as_ref().map(|decision| Alone::of(&bundle.spec, decision));
        let alone = alone.transpose()?.unwrap_or_default();
        let text = match (&decision, self.json) {
            (None, true) => "null".to_owned(),
            (None, false) => gpu::explain::NOTHING.to_owned(),
            (Some(decision), true) => gpu::explain::json(decision, &alone)?,
            (Some(decision), false) => gpu::explain::table(decision, &alone, Paint::for_stdout()),
        };
        output::print(&format!("{}\n", text.trim_end()))
    }
}
