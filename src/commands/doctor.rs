//! `gpurun doctor`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{output, version};
use crate::cli::Global;
use crate::container::rootless;
use crate::node::doctor;
use crate::paint::Paint;

const EXAMPLES: &str = "EXAMPLES:
   gpurun doctor
   gpurun doctor --bundle /run/containerd/io.containerd.runtime.v2.task/moby/ID";

/// Look what is wrong with this machine, or with a bundle, and say what to do.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// Look at this bundle: what would fail, without starting it
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Prints it. The exit status is 1 when something is red, 0 otherwise.
    ///
    /// # Errors
    /// The machine's own directories cannot be opened.
    pub fn run(self, global: &Global) -> Result<u8> {
        let report = match &self.bundle {
            Some(bundle) => doctor::bundle::check(bundle, global.systemd_cgroup),
            None => doctor::machine(&super::root::store(global)?)?,
        };
        let text = match self.json {
            true => format!("{:#}\n", report.json(version::VERSION)),
            false => format!("{}\n\n{}", heading(), report.page(Paint::for_stdout())),
        };
        output::print(&text)?;
        Ok(u8::from(report.is_red()))
    }
}

/// What is looked at with what.
fn heading() -> String {
    let system = rustix::system::uname();
    let who = if rootless::is_ordinary_user() { "an ordinary user" } else { "root" };
    format!(
        "gpurun {} on Linux {} ({}), asked by {who}",
        version::VERSION,
        system.release().to_string_lossy(),
        system.machine().to_string_lossy()
    )
}
