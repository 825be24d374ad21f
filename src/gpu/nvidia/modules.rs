//! Kernel modules that a container needs and that nothing has loaded since boot.
//!
//! `nvidia` itself comes with its hardware; `nvidia-uvm` comes with the first CUDA program that
//! is root, or never, and `nvidia-modeset` with the first display.

use super::capabilities::Capabilities;
use super::config::Config;
use super::error::Error;
use super::kernel;
use crate::host::Host;

/// Loads what is missing for a container with a GPU. Without `nvidia-uvm` there is no CUDA, so
/// failing is an error; graphics without `nvidia-modeset` is a note.
pub fn ensure(
    host: &Host,
    wanted: Capabilities,
    config: &Config,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    if !config.load_modules {
        return Ok(());
    }
    let majors = kernel::majors(host)?;
    let computes = wanted.any(Capabilities::COMPUTE.or(Capabilities::VIDEO));
    if computes && majors.nvidia.is_some() && majors.uvm.is_none() {
        loaded("nvidia-uvm", host.modules.load("nvidia-uvm")?, notes);
    }
    let draws = wanted.any(Capabilities::GRAPHICS.or(Capabilities::DISPLAY));
    if draws && majors.nvidia.is_some() && host.sys.status("module/nvidia_modeset")?.is_none() {
        match host.modules.load("nvidia-modeset") {
            Ok(is_loaded) => loaded("nvidia-modeset", is_loaded, notes),
            Err(error) => notes.push(error.to_string()),
        }
    }
    Ok(())
}

fn loaded(module: &str, is_loaded: bool, notes: &mut Vec<String>) {
    if is_loaded {
        notes.push(format!("{module} was not loaded: loaded it"));
    }
}
