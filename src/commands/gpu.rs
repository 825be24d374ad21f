//! `gpurun gpu`.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::output;
use crate::cli::Global;
use crate::container::state::Container;
use crate::container::{holders, rootless};
use crate::gpu;
use crate::gpu::listing::{self, Holder, Listing};
use crate::log;

/// The GPUs of this machine.
#[derive(Debug, Args)]
pub struct Gpu {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the GPUs and which containers have them
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// With drivers and device nodes, and UUIDs and container ids in full
        #[arg(long, conflicts_with = "json")]
        wide: bool,
    },
}

impl Gpu {
    /// Carries the subcommand out.
    ///
    /// # Errors
    /// The configuration or a driver's files cannot be read; what can be is listed all the same.
    pub fn run(self, global: &Global) -> Result<()> {
        let Command::List { json, wide } = self.command;
        list(global, json, wide)
    }
}

fn list(global: &Global, json: bool, wide: bool) -> Result<()> {
    let policy = gpu::load_policy()?;
    let (machine, identified) = gpu::see_machine()?;
    let holders = match machine.devices.is_empty() {
        true => Vec::new(),
        false => holders::all(&policy.holders, &super::root::store(global)?)?,
    };
    let holders = holders.iter().map(|one| (holder(one), holders::claim_of(one, &machine)));
    let listing = Listing { machine: &machine, holders: holders.collect() };
    match json {
        true => output::print(&format!("{:#}\n", listing.json()))?,
        false if machine.devices.is_empty() && machine.failures.is_empty() => {
            output::print(&format!("{}\n", listing::NOTHING))?;
        }
        false => output::print(&listing.table(wide))?,
    }
    // What a program finds in the document, or has no use for, is said to a person.
    for device in &machine.devices {
        if let Some(trouble) = &device.trouble {
            log::to_stderr(&format!("{}={} cannot be given: {trouble}", device.kind, device.name));
        }
    }
    if let Err(error) = identified {
        log::to_stderr(&format!("the ids of parts are not all known: {error}"));
    }
    for name in policy.exclusive.strangers(&machine.devices) {
        log::to_stderr(&format!(
            "the configuration's gpu.exclusive names {name:?}, which is no GPU of this machine"
        ));
    }
    if !machine.devices.is_empty() && rootless::is_confined() {
        log::to_stderr("containers of other users are not seen: run this as root to see all");
    }
    let missing = machine.failures.iter();
    let missing: Vec<_> = missing.map(|one| format!("{}: {}", one.vendor, one.error)).collect();
    if !missing.is_empty() {
        bail!("GPUs are missing from the list: {}", missing.join("; "));
    }
    Ok(())
}

fn holder(container: &Container) -> Holder {
    let state = &container.state;
    Holder {
        id: state.id.clone(),
        root: container.dir.path().parent().map(Into::into).unwrap_or_default(),
        bundle: state.bundle.clone(),
        pid: state.init.map_or(0, |init| init.pid),
        status: container.status().to_string(),
    }
}
