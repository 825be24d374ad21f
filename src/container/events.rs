//! `events`: what a container uses, now or again and again, and when it runs out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::resctrl;
use super::state::{Container, Status};
use crate::cgroup::Stats;
use crate::log;

/// One line of `events`, in runc's words.
#[derive(Debug, Clone, Serialize)]
pub struct Event<'a> {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container's id.
    pub id: &'a str,
    /// The statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

/// What a `stats` event carries.
#[derive(Debug, Clone, Serialize)]
pub struct Data {
    /// What the cgroup counts.
    #[serde(flatten)]
    pub cgroup: Stats,
    /// What its resctrl group is allocated and uses; empty without `linux.intelRdt`.
    pub intel_rdt: resctrl::stats::Stats,
    /// Always null, as in runc for every container that an engine makes: networks are the
    /// engine's, and runc counts only those that it made itself.
    pub network_interfaces: Option<()>,
}

/// What the container uses now.
///
/// # Errors
/// It has ended, or a file of its cgroup cannot be read.
pub fn stats(container: &Container) -> Result<Event<'_>> {
    refuse_stopped(container)?;
    read(container)
}

/// Calls `emit` with the statistics after each `interval`, and whenever memory has run out, until
/// the container's init has ended.
///
/// # Errors
/// The container has ended before, its memory cannot be watched, or `emit`'s.
pub fn follow(
    container: &Container,
    interval: Duration,
    mut emit: impl FnMut(&Event<'_>) -> Result<()>,
) -> Result<()> {
    refuse_stopped(container)?;
    let Some((_, pidfd)) = container.state.init.and_then(|init| init.open()) else {
        return Ok(());
    };
    let mut memory =
        container.state.cgroup.watch_oom().context("cannot watch the container's memory")?;
    let oom = Event { kind: "oom", id: &container.state.id, data: None };
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(memory.as_ref().map(|m| PollFd::from_borrowed_fd(m.as_fd(), PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err).context("cannot wait for events"),
        }
        let woken: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let ended = woken.first().is_some_and(|ended| *ended);
        // Memory may be what ended it: that is told first.
        if woken.contains(&true)
            && let Some(memory) = &mut memory
            && memory.happened()
        {
            emit(&oom)?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next = following(next, interval);
            match read(container) {
                Ok(event) => emit(&event)?,
                // The cgroup may be going at this very moment.
                Err(error) => log::warn(log::one_line(&error)),
            }
        }
    }
}

/// The next tick that is still to come: a reader that is slow misses some.
fn following(last: Instant, interval: Duration) -> Instant {
    let now = Instant::now();
    let next = last + interval;
    if next > now { next } else { now + interval }
}

fn read(container: &Container) -> Result<Event<'_>> {
    let cgroup = container.state.cgroup.stats().context("unable to get container cgroup stats")?;
    let group = container.state.resctrl.as_ref();
    let intel_rdt = group.map(resctrl::Resctrl::stats).transpose()?.unwrap_or_default();
    let data = Data { cgroup, intel_rdt, network_interfaces: None };
    Ok(Event { kind: "stats", id: &container.state.id, data: Some(data) })
}

fn refuse_stopped(container: &Container) -> Result<()> {
    if matches!(container.status(), Status::Stopped | Status::Creating) {
        bail!("container with id {} is not running", container.state.id);
    }
    Ok(())
}
