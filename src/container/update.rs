//! `update`: other limits for a container that runs.

use anyhow::{Result, bail};
use oci_spec::runtime::LinuxResources;

use super::resctrl::ResctrlError;
use super::state::{Container, Status};
use crate::cgroup::devices::DeviceRules;

/// Applies `resources` to the container's cgroup. Device rules in them replace those of the spec;
/// what the container's GPUs need is kept in any case, and the change is one step.
///
/// # Errors
/// The container has ended, or a limit is refused.
pub fn update(container: &mut Container, resources: &LinuxResources) -> Result<()> {
    if matches!(container.status(), Status::Stopped | Status::Creating) {
        bail!("container not running");
    }
    container.state.cgroup.set(resources)?;
    let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) else {
        return Ok(());
    };
    let spec = container.spec()?;
    let nodes = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
    let mut wanted = DeviceRules::for_container(rules, nodes.unwrap_or_default())?;
    wanted.allow_each(&container.state.gpu_rules)?;
    if wanted != container.state.devices {
        container.state.cgroup.set_devices(&wanted)?;
        container.state.devices = wanted;
        container.save()?;
    }
    Ok(())
}

/// Other schemata for the container's resctrl group: `L3:…` and `MB:…`.
///
/// # Errors
/// The container has ended or has no such group, or the kernel refuses.
pub fn update_rdt(container: &Container, l3: Option<&str>, memory: Option<&str>) -> Result<()> {
    if matches!(container.status(), Status::Stopped | Status::Creating) {
        bail!("container not running");
    }
    let resctrl = container.state.resctrl.as_ref().ok_or(ResctrlError::NotConfigured)?;
    Ok(resctrl.update(l3, memory)?)
}
