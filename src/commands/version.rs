//! `--version`: the lines that engines print in their `info`.

use anyhow::Result;

use super::output;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the version, the commit and the newest runtime-spec version that is understood.
///
/// # Errors
/// stdout is closed.
pub fn print() -> Result<()> {
    output::print(&format!(
        "gpurun version {}\ncommit: {}\nspec: {}\n",
        VERSION,
        option_env!("GPURUN_COMMIT").unwrap_or("unknown"),
        super::features::OCI_VERSION_MAX,
    ))
}
