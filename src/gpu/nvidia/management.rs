//! `management.nvidia.com/gpu=all`: every node of the driver, for containers that manage GPUs
//! rather than compute on them (NVIDIA's MIG manager, DCGM, validators).
//!
//! They get the nodes that the machine has, whatever the GPUs behind them are like, the right to
//! configure MIG and every IMEX channel included; of `/proc` nothing is hidden or masked, since
//! making nodes may be a part of their work.

use super::config::{Config, SECTION};
use super::error::Error;
use super::wish::{DEVICES_VARIABLE, NvidiaWish};
use super::{allowed, gpus, imex, kernel, policy, user_space};
use crate::gpu::error::GpuError;
use crate::gpu::nodes::{self, join_groups};
use crate::gpu::plan::{Grant, Plan};
use crate::gpu::vendor::{Summary, Wish};
use crate::host::{Host, Settings};

/// The CDI kind.
pub const KIND: &str = "management.nvidia.com/gpu";

/// Its only device.
const ALL: &str = "all";

/// Where the driver's nodes are, below `/dev`, and how their names begin.
const NODES: [(&str, &str); 3] =
    [("", "nvidia"), ("nvidia-caps", "nvidia-cap"), (imex::DIRECTORY, "channel")];

/// What begins so too and belongs to something else.
const NOT_THESE: [&str; 3] = ["nvidia-fs", "nvidia-nvswitch", "nvidia-nvlink"];

/// A wish for the devices of this kind.
#[derive(Debug)]
pub struct ManagementWish(NvidiaWish);

impl ManagementWish {
    /// The wish for these devices.
    ///
    /// # Errors
    /// A device that does not exist.
    pub fn new(devices: &[String], wish: NvidiaWish) -> Result<Self, Error> {
        match devices.iter().find(|device| *device != ALL) {
            Some(device) => Err(Error::UnknownManagement { device: device.clone() }),
            None => Ok(Self(wish)),
        }
    }
}

impl Wish for ManagementWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: SECTION.into(),
            source: self.0.source.clone(),
            devices: vec![format!("{KIND}={ALL}")],
            capabilities: self.0.capabilities.names(),
        }
    }

    fn refusal(&self, settings: &Settings) -> Result<Option<String>, GpuError> {
        Ok(policy::management_refusal(&self.0, &Config::read(settings)?))
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        Ok(resolve(&self.0, &Config::read(settings)?, host, plan)?)
    }
}

fn resolve(wish: &NvidiaWish, config: &Config, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let wanted = allowed(wish, config.supported)?;
    let version = kernel::version(host)?;
    for gpu in gpus::read(host)? {
        if let Some(index) = gpu.index {
            plan.grants.push(Grant {
                kind: KIND.to_owned(),
                index,
                uuid: gpu.uuid.unwrap_or_default(),
                bus_id: gpu.address.to_string(),
                model: gpu.model,
                asked_as: ALL.to_owned(),
                part: None,
            });
        }
    }
    let first = plan.devices.len();
    for (directory, prefix) in NODES {
        add_nodes(host, directory, prefix, plan)?;
    }
    if plan.devices.len() == first {
        return Err(Error::NoNodes { directory: host.dev.path().to_owned() });
    }
    if config.additional_gids {
        join_groups(first, plan);
    }
    user_space(wish, wanted, &version, config, host, plan)?;
    plan.env.push((DEVICES_VARIABLE.to_owned(), "void".to_owned()));
    Ok(())
}

/// Adds the character devices of a directory whose names begin so.
fn add_nodes(host: &Host, directory: &str, prefix: &str, plan: &mut Plan) -> Result<(), Error> {
    let listed = if directory.is_empty() { "." } else { directory };
    let names = host.dev.names(listed)?.into_iter().filter(|name| {
        name.starts_with(prefix) && !NOT_THESE.iter().any(|other| name.starts_with(other))
    });
    for name in names {
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        if let Some(node) = nodes::of_host(host, &path, "management of all GPUs".to_owned())? {
            nodes::add(node, plan);
        }
    }
    Ok(())
}
