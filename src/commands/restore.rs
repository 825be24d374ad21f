//! `gpurun restore`.

use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::checkpoint::{Shared, say_what_is_ignored};
use crate::cli::Global;
use crate::container::bundle::Bundle;
use crate::container::criu::restore::{self, Options};
use crate::container::foreground::Supervisor;
use crate::container::id::ContainerId;
use crate::container::terminal::Terminal;
use crate::container::{console, delete};
use crate::log;

/// Bring a saved container back with CRIU.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    shared: Shared,
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// A unix socket that gets the terminal's master
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// A file that gets the init's pid
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Leave orphans of the container to the system's init
    #[arg(long)]
    no_subreaper: bool,
    /// Accepted as in runc: CRIU changes the root in its own way
    #[arg(long)]
    no_pivot: bool,
    /// Another LSM profile than the saved one
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Another LSM context for mounts than the saved one
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// The container's id
    id: String,
}

impl Restore {
    /// Restores it and returns the program's exit status, 0 when detached.
    ///
    /// # Errors
    /// See [`restore::restore`].
    pub fn run(self, global: &Global) -> Result<u8> {
        say_what_is_ignored(global);
        let id = ContainerId::parse(&self.id)?;
        let bundle = Bundle::load(&self.bundle)?;
        let store = super::root::store(global)?;
        let supervisor = (!self.detach).then(|| Supervisor::new(!self.no_subreaper)).transpose()?;
        let terminal = bundle.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false);
        let socket = self.console_socket.is_some();
        let (line, console) = console::attached(self.detach, terminal, socket)?;
        let options = Options {
            common: self.shared.common(),
            lsm_profile: self.lsm_profile.filter(|text| !text.is_empty()),
            lsm_mount_context: self.lsm_mount_context.filter(|text| !text.is_empty()),
            console_socket: self.console_socket,
            console,
            pid_file: self.pid_file,
            systemd_cgroup: global.systemd_cgroup,
        };
        let init = restore::restore(&store, &id, bundle, options)?;
        let Some(supervisor) = supervisor else { return Ok(0) };
        let wait = || -> Result<u8> {
            let terminal = line.map(|line| Terminal::receive(line.as_fd())).transpose()?;
            Ok(u8::try_from(supervisor.wait(init.pid, terminal, None)?).unwrap_or(u8::MAX))
        };
        let ended = wait();
        match delete::delete(&store, &id, true) {
            Ok(left) => left.into_iter().for_each(|left| log::warn(log::one_line(&left))),
            // What went wrong first is what the caller needs to hear.
            Err(error) if ended.is_err() => log::warn(log::one_line(&error)),
            Err(error) => return Err(error),
        }
        ended
    }
}
