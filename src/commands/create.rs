//! `gpurun create`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use oci_spec::runtime::{Capability, Spec};

use crate::cli::Global;
use crate::container::activation::Activation;
use crate::container::bundle::Bundle;
use crate::container::console;
use crate::container::create;
use crate::container::decide::Options;
use crate::container::id::ContainerId;
use crate::container::notify_socket;
use crate::container::{rootless, sealed};
use crate::init::sequence::shares_pid_namespace;

/// Options that `create` and `run` have in common.
#[derive(Debug, Args)]
pub struct Common {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A unix socket that gets the terminal's master
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// A unix socket that gets a pidfd of the init
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// A file that gets the init's pid
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
    /// Change the root without pivot_root (for a host that runs from an initramfs)
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// How many descriptors after stderr (and after those of LISTEN_FDS) the container keeps
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// The container's id
    pub id: String,
}

impl Common {
    /// The options in the words of [`create`].
    #[must_use]
    pub fn options(&self, global: &Global) -> Options {
        let activation = Activation::from_environment();
        Options {
            console_socket: self.console_socket.clone(),
            console: None,
            pid_file: self.pid_file.clone(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds.saturating_add(activation.count),
            systemd_cgroup: global.systemd_cgroup,
            pidfd_socket: self.pidfd_socket.clone(),
            notify: notify_socket::of_environment().is_some(),
            environment: activation.environment(),
            rootless: super::rootless(global),
        }
    }

    /// Checks the id and loads the bundle.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn load(&self) -> Result<(ContainerId, Bundle)> {
        let id = ContainerId::parse(&self.id)?;
        let bundle = Bundle::load(&self.bundle)?;
        let visible = shares_pid_namespace(&bundle.spec) || may_trace(&bundle.spec);
        if visible || rootless::is_ordinary_user() {
            sealed::seal()?;
        }
        Ok((id, bundle))
    }
}

/// Whether the container's processes may look into one that is undumpable, as a created
/// container's init is.
fn may_trace(spec: &Spec) -> bool {
    let sets = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let bounding = sets.and_then(|sets| sets.bounding().as_ref());
    bounding.is_some_and(|set| set.contains(&Capability::SysPtrace))
}

/// Create a container.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    common: Common,
}

impl Create {
    /// Creates the container.
    ///
    /// # Errors
    /// See [`create::create`].
    pub fn run(self, global: &Global) -> Result<()> {
        let (id, bundle) = self.common.load()?;
        let process = bundle.spec.process().as_ref();
        let terminal = process.and_then(|process| process.terminal()).unwrap_or(false);
        console::check(true, terminal, self.common.console_socket.is_some())?;
        create::create(&super::root::store(global)?, &id, bundle, self.common.options(global))?;
        Ok(())
    }
}
