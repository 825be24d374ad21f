//! `gpurun run`.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use clap::Args;

use super::create::Common;
use crate::cli::Global;
use crate::container::foreground::Supervisor;
use crate::container::notify_socket::{self, NotifySocket};
use crate::container::terminal::Terminal;
use crate::container::{console, create, delete, start};
use crate::log;

/// Create a container, run its program and wait for it.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    common: Common,
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// Keep the container's state when it has ended
    #[arg(long)]
    keep: bool,
    /// Leave orphans of the container to the system's init
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    /// Runs it and returns the program's exit status, 0 when detached.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (id, bundle) = self.common.load()?;
        let store = super::root::store(global)?;
        let mut options = self.common.options(global);
        let supervisor = (!self.detach).then(|| Supervisor::new(!self.no_subreaper)).transpose()?;
        let terminal = bundle.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false);
        let socket = options.console_socket.is_some();
        let (line, console) = console::attached(self.detach, terminal, socket)?;
        options.console = console;
        let created = create::create(&store, &id, bundle, options)?;
        let wait = || -> Result<u8> {
            // Before the program can ask for its terminal's size.
            let terminal = line.map(|line| Terminal::receive(line.as_fd())).transpose()?;
            let notify = match notify_socket::of_environment() {
                Some(manager) => NotifySocket::bind(&created.container.dir, &manager)?,
                None => None,
            };
            for failed in start::start(&created.container)? {
                log::warn(failed);
            }
            let init = created.container.state.init.context("the container has no init")?;
            match (supervisor, notify) {
                (Some(supervisor), notify) => {
                    let status = supervisor.wait(init.pid, terminal, notify)?;
                    Ok(u8::try_from(status).unwrap_or(u8::MAX))
                }
                (None, Some(notify)) => {
                    notify.wait(created.pidfd.as_fd(), init.pid)?;
                    Ok(0)
                }
                (None, None) => Ok(0),
            }
        };
        let ended = wait();
        if ended.is_ok() && (self.detach || self.keep) {
            return ended;
        }
        match delete::delete(&store, &id, true) {
            Ok(left) => left.into_iter().for_each(|left| log::warn(log::one_line(&left))),
            // What went wrong first is what the caller needs to hear.
            Err(error) if ended.is_err() => log::warn(log::one_line(&error)),
            Err(error) => return Err(error),
        }
        ended
    }
}
