//! The notify descriptor's way to the agent that answers for the container.
//!
//! The runtime connects to the profile's `listenerPath` and sends one message: the container
//! process state as JSON, with the descriptor attached (runtime-spec, config-linux.md, "The
//! Container Process State").

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{ContainerProcessState, State};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::peer;

/// The name that the specification gives the descriptor.
const FD_NAME: &str = "seccompFd";

/// The agent did not get the descriptor.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// Nobody listens there.
    #[error("seccomp: connect to the agent at {path}: {error}")]
    Connect {
        /// The profile's `listenerPath`.
        path: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The agent went away.
    #[error("seccomp: send the notify descriptor to the agent at {path}: {error}")]
    Send {
        /// The profile's `listenerPath`.
        path: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The state is not expressible.
    #[error("seccomp: container process state: {0}")]
    State(String),
}

/// The message for the agent about the process `pid` (as the runtime sees it) of the container.
///
/// `pid` is the init for create, the new process for exec; `state` is the container's.
///
/// # Errors
/// [`NotifyError::State`].
pub fn message(pid: i32, metadata: Option<&str>, state: &State) -> Result<Vec<u8>, NotifyError> {
    let mut message = ContainerProcessState::default();
    message
        .set_version(state.version().clone())
        .set_fds(vec![FD_NAME.to_owned()])
        .set_pid(pid)
        .set_metadata(metadata.map(str::to_owned))
        .set_state(state.clone());
    serde_json::to_vec(&message).map_err(|error| NotifyError::State(error.to_string()))
}

/// Sends `message` and `listener` to the agent that listens at `path`.
///
/// Waits until the agent's socket takes it, as [`peer::patiently`] does, and as long as `process`
/// lives; the descriptor is the agent's as soon as this returns.
///
/// # Errors
/// [`NotifyError::Connect`], [`NotifyError::Send`].
pub fn send(
    path: &Path,
    message: &[u8],
    listener: BorrowedFd<'_>,
    process: BorrowedFd<'_>,
) -> Result<(), NotifyError> {
    let socket = peer::connect(path, Some(process))
        .map_err(|error| NotifyError::Connect { path: path.to_owned(), error })?;
    send_on(socket.as_fd(), message, listener, process)
        .map_err(|error| NotifyError::Send { path: path.to_owned(), error })
}

fn send_on(
    socket: BorrowedFd<'_>,
    message: &[u8],
    listener: BorrowedFd<'_>,
    process: BorrowedFd<'_>,
) -> io::Result<()> {
    let fds = [listener];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = peer::patiently(Some(process), || {
        let message = [IoSlice::new(message)];
        Ok(rustix::net::sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL)?)
    })?;
    // A stream socket may take less than everything; the descriptor went with the first byte.
    let mut rest = message.get(sent..).unwrap_or_default();
    while !rest.is_empty() {
        let sent = peer::patiently(Some(process), || {
            Ok(rustix::net::send(socket, rest, SendFlags::NOSIGNAL)?)
        })?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}
