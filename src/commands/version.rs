//! `--version`: the lines that engines print in their `info`.

/// Prints the version, the commit and the newest runtime-spec version that is understood.
pub fn print() {
    println!(
        "gpurun version {}\ncommit: {}\nspec: {}",
        env!("CARGO_PKG_VERSION"),
        option_env!("GPURUN_COMMIT").unwrap_or("unknown"),
        super::features::OCI_VERSION_MAX,
    );
}
