//! `delete`: undoes what `create` did, from what is written down, also after a crash at any point.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use oci_spec::runtime::ContainerState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use super::holders;
use super::id::ContainerId;
use super::lock::{self, Lock, LockError};
use super::start::hook_state;
use super::state::{Container, StateError, Status};
use super::store::{StateDir, Store, StoreError};
use super::traces::Traces;
use crate::cgroup::{Cgroup, CgroupError, KILL_TIMEOUT};
use crate::gpu;
use crate::init::{hooks, rootfs, undo};
use crate::log;

/// Removes the container `id`. With `force` a running one is killed first, one that does not exist
/// is fine, and one whose state is damaged or of another version is cleared away by what else is
/// written down (`traces`). Returns what could not be undone in the rootfs or what a poststop hook
/// failed with; the container is gone all the same.
///
/// # Errors
/// It does not exist, still runs, or cannot be killed or lose its cgroup; then it is still
/// remembered, and `delete` can be tried again.
pub fn delete(store: &Store, id: &ContainerId, force: bool) -> Result<Vec<Error>> {
    let dir = match store.find(id) {
        Err(StoreError::Missing(_)) if force => return Ok(Vec::new()),
        dir => dir?,
    };
    // Held until the directory has gone.
    let _lock = match lock(store, id, &dir, force) {
        Err(LockError::Gone) if force => return Ok(Vec::new()),
        Err(LockError::Gone) => return Err(StoreError::Missing(id.to_string()).into()),
        locked => locked
            .map_err(|error| explain(store, id, force, error))
            .with_context(|| format!("cannot delete container {id}"))?,
    };
    let container = match Container::load_from(dir.clone(), id) {
        Ok(container) => container,
        Err(error) if force && !matches!(error, StateError::Store(_)) => {
            return remove_unreadable(store, id, &dir, error);
        }
        Err(error) => return Err(error.into()),
    };
    match container.status() {
        // As in runc, what has never been started needs no force.
        Status::Stopped | Status::Created => {}
        _ if force => {}
        // Its create was killed half-way, and its init with it: it does not have the lock.
        status @ Status::Creating => bail!(
            "cannot delete container {id} that is not stopped: {status} (if its create was \
             killed, use --force)"
        ),
        status => bail!("cannot delete container {id} that is not stopped: {status}"),
    }
    let spec = container.state.has_late_hooks.then(|| container.spec());
    let report = hook_state(&container);
    let mut left = remove_traces(store, id, &container.dir, &Traces::of_container(&container))?;
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
pub(super) fn remove_traces(
    store: &Store,
    id: &ContainerId,
    dir: &StateDir,
    traces: &Traces,
) -> Result<Vec<Error>> {
    if traces.owns_cgroup(dir) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        kill_init(traces, deadline)?;
        remove_cgroup(&traces.cgroup, deadline)?;
    } else {
        let deleted = traces.cgroup.delete_if_unused();
        deleted.context("cannot remove the container's cgroup")?;
    }
    if let Some(resctrl) = &traces.resctrl {
        resctrl.remove()?;
    }
    let mut left = None;
    if let Some(rootfs) = &traces.rootfs {
        if let Some(mount) = traces.shared_root {
            rootfs::unmount_shared(rootfs, mount)?;
        }
        let restore = || restore_rootfs(store, id, dir, rootfs);
        // Nobody can ask again, because the container is forgotten; and what failed for want of
        // memory or descriptors may go a moment later. What is done already is no failure.
        left = restore().or_else(|_| restore()).err();
    }
    holders::leave(traces.holder.as_deref());
    let unlisted = gpu::register::leave(&traces.registers, id.as_str()).err().map(Error::new);
    dir.remove()?;
    Ok(left.into_iter().chain(unlisted).collect())
}

fn kill_init(traces: &Traces, deadline: Instant) -> Result<()> {
    if let Some(init) = traces.init
        && init.signal(libc::SIGKILL).is_ok()
    {
        // A frozen process dies only when it is thawed (cgroup v1).
        let _ = traces.cgroup.thaw();
        if !has_ended(init.pid, deadline) {
            return Err(still_alive(&traces.cgroup, init.pid).into());
        }
    }
    Ok(())
}

/// Kills what is in the cgroup and removes it. An `exec` may put another process in meanwhile.
fn remove_cgroup(cgroup: &Cgroup, deadline: Instant) -> Result<()> {
    loop {
        cgroup.kill(deadline).context("cannot kill the container's processes")?;
        let error = match cgroup.delete() {
            Ok(true) => return Ok(()),
            Ok(false) => {
                log::warn("another container has the container's cgroup by now: that stays");
                return Ok(());
            }
            Err(error) => error,
        };
        let failed = "cannot remove the container's cgroup";
        match cgroup.hanging()? {
            Some(_) if Instant::now() < deadline => {}
            Some(pid) => return Err(CgroupError::StillAlive { pid }).context(failed),
            None => return Err(error).context(failed),
        }
    }
}

/// Waits for other commands. One that creates the container is made to fail where that is wanted,
/// by the death of its init.
fn lock(store: &Store, id: &ContainerId, dir: &StateDir, force: bool) -> Result<Lock, LockError> {
    let deadline = Instant::now() + lock::PATIENCE;
    loop {
        match Lock::try_take(dir) {
            Err(LockError::Busy { .. }) if force && Instant::now() < deadline => {
                if let Some(traces) = Container::load(store, id).ok().and_then(|it| owned(&it)) {
                    if let Some(init) = traces.init {
                        let _ = init.signal(libc::SIGKILL);
                    }
                    let _ = traces.cgroup.kill_at_once();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(busy @ LockError::Busy { .. }) if !force => {
                return match Container::load(store, id) {
                    // It may take long, and succeed.
                    Ok(container) if container.status() == Status::Creating => Err(busy),
                    _ => Lock::take(dir),
                };
            }
            done => return done,
        }
    }
}

/// Why a lock is not to be had. With `force` its holder's processes were killed all the time: one
/// that is there still is the reason.
fn explain(store: &Store, id: &ContainerId, force: bool, error: LockError) -> Error {
    let busy = force && matches!(error, LockError::Busy { .. });
    let traces = busy.then(|| owned(&Container::load(store, id).ok()?)).flatten();
    let hanging = traces.and_then(|traces| traces.cgroup.hanging().ok()?);
    match hanging {
        Some(pid) => Error::new(error).context(CgroupError::StillAlive { pid }),
        None => Error::new(error),
    }
}

/// What a container has, if the processes in its cgroup are its own.
fn owned(container: &Container) -> Option<Traces> {
    let traces = Traces::of_container(container);
    traces.owns_cgroup(&container.dir).then_some(traces)
}

/// Removes a container whose state cannot be read, with what else is known of it.
fn remove_unreadable(
    store: &Store,
    id: &ContainerId,
    dir: &StateDir,
    error: StateError,
) -> Result<Vec<Error>> {
    // Of a create that was killed at its very beginning there is a directory and no more.
    let says = |error: StateError| match error {
        StateError::Unfinished(_) => None,
        other => Some(Error::new(other)),
    };
    let untouched = !dir.start_fifo().exists() && dir.read("state.json")?.is_none();
    let (traces, unknown) = match Traces::recover(id, dir) {
        Ok(Some(traces)) => (Some(traces), None),
        Ok(None) if untouched => (None, None),
        Ok(None) => (None, Some(anyhow!("where its cgroup is, is not known: it stays"))),
        Err(error) => (None, Some(error)),
    };
    let mut left: Vec<Error> = says(error).into_iter().chain(unknown).collect();
    match traces {
        Some(traces) => {
            if !traces.owns_cgroup(dir) && !traces.cgroup.pids()?.is_empty() {
                left.push(anyhow!(
                    "there are processes in the cgroup that it was to have, which may be another \
                     container's: they stay"
                ));
            }
            left.extend(remove_traces(store, id, dir, &traces)?);
        }
        None => dir.remove()?,
    }
    Ok(left)
}

fn has_ended(pid: i32, deadline: Instant) -> bool {
    let Some(raw) = Pid::from_raw(pid) else { return true };
    // Gone already is fine.
    let Ok(pidfd) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { return true };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return false,
            _ => return true,
        }
    }
}

/// An init ends after all in its pid namespace, so it may not be the one that hangs.
fn still_alive(cgroup: &Cgroup, init: i32) -> CgroupError {
    CgroupError::StillAlive { pid: cgroup.hanging().ok().flatten().unwrap_or(init) }
}

/// Takes away what was created in the rootfs. Where another container uses the same rootfs that
/// would pull its mounts from under it: the last of them does it.
fn restore_rootfs(store: &Store, id: &ContainerId, dir: &StateDir, rootfs: &Path) -> Result<()> {
    let Some(journal) = dir.read("created")?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(());
    };
    let inode = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let own = inode(rootfs);
    for other in store.ids()? {
        if other == *id {
            continue;
        }
        let Ok(other) = Container::load(store, &other) else { continue };
        // It may be mounted elsewhere, too.
        let place = &other.state.rootfs;
        if place == rootfs || (own.is_some() && inode(place) == own) {
            let mut heir = other.dir.journal()?;
            return std::io::Write::write_all(&mut heir, &journal)
                .context("cannot hand the list of created paths on");
        }
    }
    let problems = undo::undo(rootfs, &journal);
    match problems.into_iter().next() {
        Some(first) => Err(first).context("cannot remove what was created in the rootfs"),
        None => Ok(()),
    }
}
