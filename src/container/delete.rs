//! `delete`: undoes what `create` did, from what is written down, also after a crash at any point.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime::ContainerState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use super::id::ContainerId;
use super::start::hook_state;
use super::state::{Container, StateError, Status};
use super::store::{Store, StoreError};
use crate::init::{hooks, rootfs, undo};

/// How long a killed process may take to go. Longer means that it hangs in the kernel (state D).
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes the container `id`. With `force` a running one is killed first, one that does not exist
/// is fine, and one with damaged state loses at least its directory. Returns what could not be
/// undone in the rootfs or what a poststop hook failed with; the container is gone all the same.
///
/// # Errors
/// It does not exist, still runs, or cannot be killed or lose its cgroup; then it is still
/// remembered, and `delete` can be tried again.
pub fn delete(store: &Store, id: &ContainerId, force: bool) -> Result<Vec<Error>> {
    let container = match Container::load(store, id) {
        Ok(container) => container,
        Err(StateError::Store(StoreError::Missing(_))) if force => return Ok(Vec::new()),
        Err(error @ (StateError::Unfinished(_) | StateError::Damaged { .. })) if force => {
            // Nothing is known of a cgroup or of mounts: it was killed before there were any, or
            // the disk has lost it.
            store.find(id)?.remove()?;
            return Ok(match error {
                StateError::Unfinished(_) => Vec::new(),
                damaged => vec![Error::new(damaged)],
            });
        }
        Err(error) => return Err(error.into()),
    };
    match container.status() {
        // As in runc, what has never been started needs no force.
        Status::Stopped | Status::Created => {}
        _ if force => {}
        // Killed half-way: its init has died with its parent.
        status @ Status::Creating => bail!(
            "cannot delete container {id} that is not stopped: {status} (if its create was \
             killed, use --force)"
        ),
        status => bail!("cannot delete container {id} that is not stopped: {status}"),
    }
    let spec = container.state.has_late_hooks.then(|| container.spec());
    let report = hook_state(&container);
    let mut left = remove_traces(store, &container)?;
    match spec {
        Some(Ok(spec)) => {
            let list = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref());
            let document = report.document(ContainerState::Stopped, None);
            let failed = hooks::run_all("poststop", list.unwrap_or_default(), &document);
            left.extend(failed.into_iter().map(Error::new));
        }
        Some(Err(error)) => left.push(Error::new(error)),
        None => {}
    }
    Ok(left)
}

/// Removes everything that a container has on the host: processes, cgroup, what was created in
/// the rootfs, and last the directory that remembers it. Returns what stays in the rootfs.
///
/// # Errors
/// While there are processes or a cgroup the container is not forgotten: nobody could find them
/// again.
pub(super) fn remove_traces(store: &Store, container: &Container) -> Result<Vec<Error>> {
    kill_init(container)?;
    container.state.cgroup.delete().context("cannot remove the container's cgroup")?;
    if let Some(id) = container.state.shared_root {
        rootfs::unmount_shared(&container.state.rootfs, id)?;
    }
    let left = restore_rootfs(store, container).err();
    container.dir.remove()?;
    Ok(left.into_iter().collect())
}

fn kill_init(container: &Container) -> Result<()> {
    let cgroup = &container.state.cgroup;
    if let Some(init) = container.state.init
        && init.signal(libc::SIGKILL).is_ok()
    {
        // A frozen process dies only when it is thawed (cgroup v1).
        let _ = cgroup.thaw();
        wait_for_end(init.pid)?;
    }
    if !cgroup.pids()?.is_empty() {
        cgroup.kill_all(Signal::SIGKILL).context("cannot kill the container's processes")?;
    }
    Ok(())
}

fn wait_for_end(pid: i32) -> Result<()> {
    let Some(raw) = Pid::from_raw(pid) else { return Ok(()) };
    // Gone already is fine.
    let Ok(pidfd) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { return Ok(()) };
    let timeout = Timespec { tv_sec: KILL_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => {
                return Err(anyhow!(
                    "process {pid} does not die: it hangs in the kernel (state D), usually in a \
                     driver or on a network filesystem; see /proc/{pid}/stack"
                ));
            }
            _ => return Ok(()),
        }
    }
}

/// Takes away what was created in the rootfs. Where another container uses the same rootfs that
/// would pull its mounts from under it: the last of them does it.
fn restore_rootfs(store: &Store, container: &Container) -> Result<()> {
    let Some(journal) = container.dir.read("created")?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(());
    };
    for id in store.ids()? {
        if id.as_str() == container.state.id {
            continue;
        }
        let Ok(other) = Container::load(store, &id) else { continue };
        if other.state.rootfs == container.state.rootfs {
            let mut heir = other.dir.journal()?;
            return std::io::Write::write_all(&mut heir, &journal)
                .context("cannot hand the list of created paths on");
        }
    }
    let problems = undo::undo(&container.state.rootfs, &journal);
    match problems.into_iter().next() {
        Some(first) => Err(first).context("cannot remove what was created in the rootfs"),
        None => Ok(()),
    }
}
