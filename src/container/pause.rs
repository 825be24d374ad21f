//! `pause` and `resume`.

use anyhow::{Context, Result, bail};

use super::lock::Lock;
use super::state::{Container, Status};

/// Freezes all processes of the container. Of two at once one finds it paused already; of this and
/// a `kill` at once the `kill` has its way.
///
/// # Errors
/// It does not run.
pub fn pause(container: &Container) -> Result<()> {
    let _lock = Lock::take(&container.dir).context("cannot freeze the container")?;
    match container.status() {
        Status::Running | Status::Created => {
            let frozen = container.state.cgroup.freeze();
            // A frozen process does not die on cgroup v1, and `kill` has not seen that it is frozen.
            if container.state.init.is_none_or(|init| init.is_doomed()) {
                let _ = container.state.cgroup.thaw();
                bail!("container not running: it was killed meanwhile");
            }
            frozen.context("cannot freeze the container")
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
