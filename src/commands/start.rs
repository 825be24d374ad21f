//! `gpurun start`.

use std::os::fd::AsFd;

use anyhow::Result;
use clap::Args;

use crate::cli::Global;
use crate::container::notify_socket::{self, NotifySocket};
use crate::container::start;
use crate::container::state::Status;
use crate::log;

/// Run the program of a created container.
#[derive(Debug, Args)]
pub struct Start {
    /// The container's id
    id: String,
}

impl Start {
    /// Starts it.
    ///
    /// # Errors
    /// It does not wait for a start.
    pub fn run(self, global: &Global) -> Result<()> {
        let container = super::load(global, &self.id)?;
        let notify = match notify_socket::of_environment() {
            Some(manager) if container.status() == Status::Created => {
                NotifySocket::bind(&container.dir, &manager)?
            }
            _ => None,
        };
        // Before the start: the init may have ended and its pid be another's afterwards.
        let init = notify.is_some().then(|| container.state.init.and_then(|init| init.open()));
        for failed in start::start(&container)? {
            log::warn(failed);
        }
        if let (Some(notify), Some(Some((pid, pidfd)))) = (notify, init) {
            notify.wait(pidfd.as_fd(), pid)?;
        }
        Ok(())
    }
}
