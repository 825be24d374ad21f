//! `--pidfd-socket`: an engine's socket that gets a pidfd of the new process, so that the engine
//! can wait for it and signal it without ever meeting a reused pid.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::net::{self, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::peer;

/// The connection. Made before anything else, so that nothing is started for nobody.
#[derive(Debug)]
pub struct PidfdSocket(OwnedFd);

impl PidfdSocket {
    /// What runc sends beside the descriptor of a container's init.
    pub const INIT: &'static str = "standard";
    /// What runc sends beside the descriptor of a process of `exec`.
    pub const EXEC: &'static str = "setns";

    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> Result<Self> {
        peer::connect(path, None)
            .map(Self)
            .with_context(|| format!("cannot connect to the pidfd socket {}", path.display()))
    }

    /// Sends the one message.
    ///
    /// # Errors
    /// When the engine has closed its end.
    pub fn send(&self, pidfd: BorrowedFd<'_>, kind: &str) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [pidfd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let text = [IoSlice::new(kind.as_bytes())];
        net::sendmsg(self.0.as_fd(), &text, &mut control, SendFlags::NOSIGNAL)
            .context("cannot send the pidfd to --pidfd-socket")?;
        Ok(())
    }
}
