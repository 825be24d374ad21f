//! The processes of a container: those of its cgroup, or, where its creator had no right to make
//! one, those of its pid namespace.

use std::fs;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::process::{self, Liveness};
use super::state::Container;

/// The pids, in the runtime's pid namespace.
///
/// # Errors
/// Read errors; a container with neither a cgroup nor a pid namespace of its own.
pub fn pids(container: &Container) -> Result<Vec<i32>> {
    let state = &container.state;
    if !state.cgroup.is_refused() {
        return Ok(state.cgroup.pids()?);
    }
    if !state.own_pid_namespace {
        bail!(
            "the container has neither a cgroup (its creator had no right to make one) nor a pid \
             namespace of its own: nothing tells which processes are the container's"
        );
    }
    let Some(init) = state.init.filter(|init| init.liveness() == Liveness::Alive) else {
        // A pid namespace ends with its init.
        return Ok(Vec::new());
    };
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let own = namespace(init.pid).context("cannot look at the container's pid namespace")?;
    let all = fs::read_dir("/proc").context("cannot read /proc")?.flatten();
    let mut pids: Vec<i32> = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        // A process of somebody else cannot be looked at, and is not the container's.
        .filter(|pid| namespace(*pid).is_ok_and(|theirs| theirs == own))
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Sends a signal to each of them.
///
/// # Errors
/// Those of [`pids`], and a signal that is refused.
pub fn kill_all(container: &Container, signal: i32) -> Result<()> {
    let cgroup = &container.state.cgroup;
    if !cgroup.is_refused()
        && let Ok(known) = Signal::try_from(signal)
    {
        return Ok(cgroup.kill_all(known)?);
    }
    // Real-time signals, 0, and processes without a cgroup.
    for pid in pids(container)? {
        match process::send(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(err) => return Err(err).with_context(|| format!("cannot signal process {pid}")),
        }
    }
    Ok(())
}
