//! `start`: lets the user's program of a created container run.

use std::os::unix::fs::OpenOptionsExt;
use std::{fs, io};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::ContainerState;
use rustix::event::{PollFd, PollFlags, poll};

use super::lock::Lock;
use super::state::{Container, Status};
use crate::init::hooks::{self, HookState};
use crate::log;

/// Starts the container and returns when its program has been exec'd (or could not be). Failures
/// of poststart hooks are returned: they do not stop anything.
///
/// # Errors
/// The container is not waiting for a start.
pub fn start(container: &Container) -> Result<Vec<hooks::HookError>> {
    let id = &container.state.id;
    match container.status() {
        Status::Created => {}
        Status::Running => bail!("cannot start an already running container"),
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Paused => bail!("cannot start a container in the paused state: resume it first"),
        Status::Creating => {
            bail!("cannot start container {id}: its creation has not finished")
        }
    }
    // Of several callers at once the first one starts it.
    let lock =
        Lock::take(&container.dir).with_context(|| format!("cannot start container {id}"))?;
    let path = container.dir.start_fifo();
    let opened = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let mut fifo = match opened {
        Ok(fifo) => fifo,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            bail!("cannot start an already running container")
        }
        Err(err) => {
            return Err(err).with_context(|| format!("container {id} does not wait for a start"));
        }
    };
    // In this order: with the name gone first, a `start` that is killed in between would leave a
    // container that nobody can start.
    io::Write::write_all(&mut fifo, &[0]).context("cannot start the container")?;
    if let Err(err) = fs::remove_file(&path) {
        // The container runs, whatever lies beside it.
        log::warn(format!("cannot remove {}: {err}", path.display()));
    }
    drop(lock);
    // The init holds the only other descriptor, closed by its exec or its end: then there is no
    // reader any more, and nothing of the runtime is left in the container.
    while let Err(rustix::io::Errno::INTR) =
        poll(&mut [PollFd::new(&fifo, PollFlags::empty())], None)
    {}
    poststart(container)
}

fn poststart(container: &Container) -> Result<Vec<hooks::HookError>> {
    // Without hooks the spec need not be read at all; the state says whether there are any.
    if !container.state.has_late_hooks {
        return Ok(Vec::new());
    }
    let spec = container.spec()?;
    let list = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref());
    let state = hook_state(container);
    let pid = container.state.init.map(|init| init.pid);
    let document = state.document(ContainerState::Running, pid);
    Ok(hooks::run_all("poststart", list.unwrap_or_default(), &document))
}

/// What hooks of this container are told.
#[must_use]
pub fn hook_state(container: &Container) -> HookState {
    HookState {
        oci_version: container.state.oci_version.clone(),
        id: container.state.id.clone(),
        bundle: container.state.bundle.clone(),
        annotations: container.state.annotations.clone(),
    }
}
