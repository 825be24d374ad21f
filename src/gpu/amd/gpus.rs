//! AMD's GPUs and their partitions, in the order of AMD's indexes.
//!
//! The order is that of AMD's container toolkit, by which users name GPUs: PCI devices, then
//! partitions (which are platform devices), each sorted as text; of these those whose render node
//! KFD knows; brought together by the GPU that they are of, and there sorted by the render node.

use std::fmt;

use super::error::Error;
use super::topology;
use crate::gpu::drm;
use crate::gpu::nodes::number;
use crate::gpu::pci::Address;
use crate::host::{Host, HostError};

/// What exists when the driver is loaded, below sys.
const DRIVERS: &str = "module/amdgpu/drivers";
/// The PCI devices that the driver has.
const PCI: &str = "module/amdgpu/drivers/pci:amdgpu";
/// Where the partitions are, and how their names begin.
const PLATFORM: &str = "devices/platform";
const PARTITION: &str = "amdgpu_xcp_";

/// A GPU or, where GPUs are partitioned, a partition of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// AMD's index.
    pub index: u32,
    /// The minor number of its render node.
    pub render: u32,
    /// The names of its nodes in `/dev/dri`.
    pub nodes: Vec<String>,
    /// The directory below sys that lists its nodes.
    pub directory: String,
    /// Where the GPU is on the PCI bus.
    pub address: Address,
    /// The GPU's unique id, as AMD's tools write it: `0x` and hexadecimal digits.
    pub unique_id: Option<String>,
    /// The product name, where the board has one.
    pub model: Option<String>,
    /// Which part of the GPU it is, if there are several.
    pub partition: Option<Partition>,
}

/// One of several partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Which of the GPU's, from 0.
    pub number: usize,
    /// How many there are.
    pub count: usize,
    /// The modes of compute and memory: `cpx_nps4`.
    pub mode: Option<String>,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of {}", self.number, self.count)?;
        match &self.mode {
            Some(mode) => write!(f, " ({mode})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.unique_id.as_deref().unwrap_or("no unique id");
        write!(f, "{}: {id}, {}", self.index, self.address)
    }
}

/// A directory of a device, before it is known which GPU it is of.
struct Candidate {
    device: String,
    render: u32,
    nodes: Vec<String>,
    parent: Address,
    unique_id: Option<u64>,
    address: Option<Address>,
}

/// Reads the list.
///
/// # Errors
/// The driver is not loaded, or a directory cannot be read.
pub fn read(host: &Host) -> Result<Vec<Gpu>, Error> {
    if host.sys.status(DRIVERS)?.is_none() {
        return Err(Error::DriverNotLoaded { path: host.sys.at(DRIVERS) });
    }
    let mut groups: Vec<Vec<Candidate>> = Vec::new();
    for candidate in candidates(host)? {
        let same = |group: &&mut Vec<Candidate>| {
            group.first().is_some_and(|first| first.parent == candidate.parent)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(candidate),
            None => groups.push(vec![candidate]),
        }
    }
    let mut gpus = Vec::new();
    for mut group in groups {
        group.sort_by_key(|candidate| candidate.render);
        gpus.extend(members(host, group)?);
    }
    for (index, gpu) in (0..).zip(&mut gpus) {
        gpu.index = index;
    }
    Ok(gpus)
}

/// The devices that have a render node which KFD knows: not each that is visible does work.
fn candidates(host: &Host) -> Result<Vec<Candidate>, HostError> {
    let known = topology::read(host)?;
    let pci = host.sys.names(PCI)?.into_iter().filter(|name| is_address(name));
    let pci = pci.map(|name| (format!("{PCI}/{name}"), Address::parse(&name)));
    let parts = host.sys.names(PLATFORM)?.into_iter().filter(|name| name.starts_with(PARTITION));
    let parts = parts.map(|name| (format!("{PLATFORM}/{name}"), None));
    let mut found = Vec::new();
    for (device, address) in pci.chain(parts) {
        let mut nodes = drm::names(host, &format!("{device}/drm"))?;
        nodes.retain(|name| !name.starts_with("control"));
        let render = nodes.iter().rev().find_map(|name| number(name, "renderD"));
        if let Some(render) = render
            && let Some(node) = known.get(&render)
        {
            let topology::Node { parent, unique_id } = *node;
            found.push(Candidate { device, render, nodes, parent, unique_id, address });
        }
    }
    Ok(found)
}

/// Whether a name begins as AMD's toolkit asks: four hexadecimal digits and a colon.
fn is_address(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.get(4) == Some(&b':') && bytes.iter().take(4).all(u8::is_ascii_hexdigit)
}

/// What is one GPU: itself, or its partitions. What only the PCI device says holds for all.
fn members(host: &Host, group: Vec<Candidate>) -> Result<Vec<Gpu>, HostError> {
    let whole = group.iter().find_map(|one| Some((one.device.clone(), one.address?)));
    let text = |file: &str| -> Result<Option<String>, HostError> {
        let Some((device, _)) = &whole else { return Ok(None) };
        let text = host.sys.read_text(format!("{device}/{file}"), 256)?;
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    };
    let model = text("product_name")?;
    let modes = (text("current_compute_partition")?, text("current_memory_partition")?);
    let mode = match modes {
        (Some(compute), Some(memory)) => Some(format!("{compute}_{memory}").to_lowercase()),
        _ => None,
    };
    let count = group.len();
    let gpus = group.into_iter().enumerate().map(|(number, one)| Gpu {
        index: 0,
        render: one.render,
        directory: format!("{}/drm", one.device),
        nodes: one.nodes,
        address: one.address.or(whole.as_ref().map(|(_, address)| *address)).unwrap_or(one.parent),
        unique_id: one.unique_id.map(|id| format!("{id:#x}")),
        model: model.clone(),
        partition: (count > 1).then(|| Partition { number, count, mode: mode.clone() }),
    });
    Ok(gpus.collect())
}
