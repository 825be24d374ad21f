//! The host's side of a container's terminal: where the master goes.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags,
    SocketType,
};
use rustix::termios::{self, OptionalActions, OutputModes};

use crate::peer;

/// Refuses terminals and console sockets that do not go together, in runc's words. `detached`:
/// the command ends before the process does, `create` always.
///
/// # Errors
/// They do not.
pub fn check(detached: bool, terminal: bool, socket: bool) -> Result<()> {
    if detached && terminal && !socket {
        bail!("cannot allocate tty if runc will detach without setting console socket");
    }
    if socket && !(detached && terminal) {
        bail!(
            "cannot use console socket if runc will not detach or allocate tty: set \
             process.terminal (exec: --tty), and --detach where there is one"
        );
    }
    Ok(())
}

/// Connects to an engine's console socket.
///
/// # Errors
/// When nobody listens there.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    peer::connect(path, None)
        .with_context(|| format!("cannot connect to the console socket {}", path.display()))
}

/// A line for a terminal's master inside one program: ours to read, the container's to write.
///
/// # Errors
/// When there are no descriptors left.
pub fn line() -> Result<(OwnedFd, OwnedFd)> {
    net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("cannot make a line for the terminal")
}

/// For a process that `run` or `exec` stays with: checks the options, and where it gets a terminal
/// of ours returns our end and the container's end of a [`line()`].
///
/// # Errors
/// See [`check`] and [`line()`].
pub fn attached(
    detached: bool,
    terminal: bool,
    socket: bool,
) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    check(detached, terminal, socket)?;
    if !terminal || detached || socket {
        return Ok((None, None));
    }
    let (ours, theirs) = line()?;
    Ok((Some(ours), Some(theirs)))
}

/// Receives the master that the container sent. Newlines come through it as the program writes
/// them, not as two characters: whoever reads our output from a pipe wants them so (as runc).
///
/// # Errors
/// When none came.
pub fn receive_master(line: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut bytes = [0u8; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    net::recvmsg(
        line.as_fd(),
        &mut [std::io::IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("cannot receive the container's terminal")?;
    let master = control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .context("the container sent no terminal")?;
    let mut settings = termios::tcgetattr(&master).context("cannot use the terminal")?;
    settings.output_modes.remove(OutputModes::ONLCR);
    termios::tcsetattr(&master, OptionalActions::Now, &settings)
        .context("cannot use the terminal")?;
    Ok(master)
}
