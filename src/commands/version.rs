//! `--version`: the lines that engines print in their `info`.

use anyhow::Result;

use super::output;

/// Prints the version, the commit and the newest runtime-spec version that is understood.
///
/// # Errors
/// stdout is closed.
pub fn print() -> Result<()> {
    output::print(&format!(
        "gpurun version {}\ncommit: {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("GPURUN_COMMIT").unwrap_or("unknown"),
        super::features::OCI_VERSION_MAX,
    ))
}
