//! `delete`: undoes what `create` did, from what is written down, also after a crash at any point.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime::{ContainerState, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use super::holders;
use super::id::ContainerId;
use super::lock::{self, Lock, LockError};
use super::start::hook_state;
use super::state::{Container, StateError, Status};
use super::store::{StateDir, Store, StoreError};
use crate::cgroup::Cgroup;
use crate::init::{hooks, rootfs, undo};

/// How long a killed process may take to go. Longer means that it hangs in the kernel (state D).
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often processes that join the cgroup while it is removed are killed.
const REMOVE_TRIES: u32 = 5;

/// Removes the container `id`. With `force` a running one is killed first, one that does not exist
/// is fine, and one with damaged state loses its directory, and its cgroup if its spec can still
/// be read. Returns what could not be undone in the rootfs or what a poststop hook failed with; the
/// container is gone all the same.
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
        locked => locked.with_context(|| format!("cannot delete container {id}"))?,
    };
    let container = match Container::load(store, id) {
        Ok(container) => container,
        Err(StateError::Unfinished(_)) if force => {
            // Nothing was made yet.
            dir.remove()?;
            return Ok(Vec::new());
        }
        Err(error @ StateError::Damaged { .. }) if force => return remove_damaged(id, &dir, error),
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
    let cgroup = &container.state.cgroup;
    if owns_cgroup(container) {
        kill_init(container)?;
        remove_cgroup(cgroup)?;
    } else if cgroup.pids()?.is_empty() {
        cgroup.delete().context("cannot remove the container's cgroup")?;
    }
    if let Some(resctrl) = &container.state.resctrl {
        resctrl.remove()?;
    }
    if let Some(id) = container.state.shared_root {
        rootfs::unmount_shared(&container.state.rootfs, id)?;
    }
    holders::leave(container);
    let left = restore_rootfs(store, container).err();
    container.dir.remove()?;
    Ok(left.into_iter().collect())
}

/// Whether processes in the cgroup are the container's. Before there is a fifo `create` has not
/// looked whose cgroup it is, and has started nothing in it; `restore` has another mark.
pub(super) fn owns_cgroup(container: &Container) -> bool {
    let marks = [container.dir.start_fifo(), container.dir.restore_place()];
    container.state.init.is_some() || marks.iter().any(|mark| mark.exists())
}

fn kill(container: &Container) -> Result<()> {
    kill_init(container)?;
    kill_cgroup(&container.state.cgroup)
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
    Ok(())
}

fn kill_cgroup(cgroup: &Cgroup) -> Result<()> {
    if !cgroup.pids()?.is_empty() {
        cgroup.kill_all(Signal::SIGKILL).context("cannot kill the container's processes")?;
    }
    Ok(())
}

/// Kills what is in the cgroup and removes it. An `exec` may put another process in meanwhile.
fn remove_cgroup(cgroup: &Cgroup) -> Result<()> {
    let mut tries = 0;
    loop {
        kill_cgroup(cgroup)?;
        tries += 1;
        match cgroup.delete() {
            Err(_) if tries < REMOVE_TRIES && !cgroup.pids()?.is_empty() => {}
            done => return done.context("cannot remove the container's cgroup"),
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
                if let Ok(container) = Container::load(store, id)
                    && owns_cgroup(&container)
                {
                    let _ = kill(&container);
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

/// Of a container whose state cannot be read, the spec that lies beside it tells the cgroup.
fn remove_damaged(id: &ContainerId, dir: &StateDir, error: StateError) -> Result<Vec<Error>> {
    let mut left = vec![Error::new(error)];
    let spec = dir.read("config.json")?.and_then(|json| serde_json::from_slice::<Spec>(&json).ok());
    if let Some(linux) = spec.as_ref().and_then(|spec| spec.linux().as_ref()) {
        let path = linux.cgroups_path().as_deref();
        // slice:prefix:name
        let systemd = path.is_some_and(|path| path.to_string_lossy().matches(':').count() == 2);
        match Cgroup::locate(path, id.as_str(), systemd) {
            Ok(cgroup) => remove_cgroup(&cgroup)?,
            Err(error) => left.push(error.into()),
        }
    }
    dir.remove()?;
    Ok(left)
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
