//! `pause` and `resume`.

use anyhow::{Context, Result, bail};

use super::lock::Lock;
use super::state::{Container, Status};

/// Freezes all processes of the container. Of two at once one finds it paused already.
///
/// # Errors
/// It does not run.
pub fn pause(container: &Container) -> Result<()> {
    let _lock = Lock::take(&container.dir).context("cannot freeze the container")?;
    match container.status() {
        Status::Running | Status::Created => {
            container.state.cgroup.freeze().context("cannot freeze the container")
        }
        status => bail!("container not running: it is {status}"),
    }
}

/// Lets the processes of a paused container go on.
///
/// # Errors
/// It is not paused.
pub fn resume(container: &Container) -> Result<()> {
    let _lock = Lock::take(&container.dir).context("cannot thaw the container")?;
    match container.status() {
        Status::Paused => container.state.cgroup.thaw().context("cannot thaw the container"),
        _ => bail!("container not paused"),
    }
}
