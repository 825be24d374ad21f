//! Tegra (Jetson, and boards with a Tegra): the integrated GPU's driver is a part of the system
//! software, and lists on the machine say which of its files and nodes a container needs.
//!
//! The lists are NVIDIA's, `/etc/nvidia-container-runtime/host-files-for-container.d/*.csv`. There
//! is one GPU, `0`. Beside it one on the PCI bus is served, which is then `1`, with its own nodes
//! and the files of the lists; the nodes of each are kept from the other's containers.

pub mod csv;
mod files;

#[cfg(test)]
mod tests;

use std::path::Path;

use self::csv::Entry;
use super::KIND;
use super::capabilities::Capabilities;
use super::config::{Config, Unmet};
use super::error::Error;
use super::gpus::Gpu;
use super::loose::Root;
use super::select::Selected;
use super::trouble::Trouble;
use super::wish::{DEVICES_VARIABLE, NvidiaWish};
use super::{drm, nodes, requirements};
use crate::gpu::compatibility;
use crate::gpu::inventory::{self, Device};
use crate::gpu::nodes::{join_groups, of_host};
use crate::gpu::pci::Address;
use crate::gpu::plan::{Compatibility, DeviceNode, Grant, Plan};
use crate::gpu::request::Selection;
use crate::host::{Host, HostError, Tree};

/// Says which release of the system software it is.
const RELEASE: &str = "etc/nv_tegra_release";
/// The lists that count unless a container asks for all.
const BASE: [&str; 3] = ["devices.csv", "drivers.csv", "l4t.csv"];
/// A list has some hundred lines.
const LONGEST: usize = 4 << 20;
/// What the device tree calls an Orin; its containers have compatibility libraries of their own.
const ORIN: &str = "nvidia,tegra234";
const ORIN_COMPATIBILITY: &str = "/usr/local/cuda/compat_orin";
/// The nodes that only the GPU on the PCI bus, and only the integrated one has, where there are
/// both.
const PCI_NODE: &str = "/dev/nvidia1";
const INTEGRATED_NODE: &str = "nvidia2";

/// Whether this is such a machine: by its family or its device tree, or where no module for GPUs on
/// the PCI bus is loaded by its release.
pub fn is(config: &Config, host: &Host, is_loaded: bool) -> Result<bool, HostError> {
    if !names(host)?.is_empty() {
        return Ok(true);
    }
    let family = host.sys.read_text("devices/soc0/family", 64)?.unwrap_or_default();
    if family.trim().to_ascii_lowercase().starts_with("tegra") {
        return Ok(true);
    }
    Ok(!is_loaded && Tree::open(&config.driver_root)?.status(RELEASE)?.is_some())
}

/// The names in the device tree; none where it is no Tegra's.
fn names(host: &Host) -> Result<Vec<String>, HostError> {
    let text = host.sys.read_text("firmware/devicetree/base/compatible", 4096)?.unwrap_or_default();
    let names: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let is_tegra = names.iter().any(|name| name.starts_with("nvidia,tegra"));
    Ok(if is_tegra { names } else { Vec::new() })
}

fn model(host: &Host) -> Result<String, HostError> {
    let text = host.sys.read_text("firmware/devicetree/base/model", 256)?.unwrap_or_default();
    let text: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    Ok(if text.is_empty() { "Tegra".to_owned() } else { text })
}

/// The GPUs on the PCI bus besides the integrated one, which a Thor has there as well.
fn discrete(gpus: &[Gpu]) -> Vec<&Gpu> {
    let thor = Address { domain: 0, bus: 1, device: 0, function: 0 };
    let is_integrated = |gpu: &Gpu| {
        gpu.model.contains("NVIDIA Thor") || gpu.model.contains("(nvgpu)") || gpu.address == thor
    };
    gpus.iter().filter(|gpu| !is_integrated(gpu)).collect()
}

/// The GPUs that containers can have.
pub fn inventory(host: &Host, gpus: &[Gpu]) -> Result<Vec<Device>, Error> {
    let mut devices = vec![Device {
        kind: KIND.into(),
        name: "0".to_owned(),
        model: Some(format!("{}, integrated", model(host)?)),
        driver: Some("tegra".to_owned()),
        ..Device::default()
    }];
    for (index, gpu) in (1..).zip(discrete(gpus)) {
        devices.push(Device {
            kind: KIND.into(),
            name: index.to_string(),
            uuid: gpu.uuid.clone(),
            bus_id: Some(gpu.address.to_string()),
            model: Some(gpu.model.clone()),
            driver: Some("nvidia".to_owned()),
            numa_node: inventory::numa_node(host, gpu.address),
            nodes: gpu
                .minor
                .map(|minor| format!("/dev/nvidia{minor}").into())
                .into_iter()
                .collect(),
            ..Device::default()
        });
    }
    Ok(devices)
}

/// Which of the two GPUs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    integrated: bool,
    discrete: bool,
}

fn wanted(devices: &Selection, gpu: Option<&Gpu>) -> Result<Wanted, Trouble> {
    let ids = match devices {
        Selection::None => return Ok(Wanted::default()),
        Selection::All => return Ok(Wanted { integrated: true, discrete: gpu.is_some() }),
        Selection::Ids(ids) => ids,
    };
    let mut wanted = Wanted::default();
    for id in ids {
        let is_discrete = |gpu: &Gpu| {
            id == "1"
                || gpu.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(id))
                || Address::parse(id) == Some(gpu.address)
        };
        match id.as_str() {
            "0" => wanted.integrated = true,
            _ if gpu.is_some_and(is_discrete) => wanted.discrete = true,
            _ => {
                let present = match gpu {
                    None => "one GPU: ask for 0 or all".to_owned(),
                    Some(gpu) => format!("GPU 0, the integrated one, and GPU 1 ({gpu})"),
                };
                return Err(Trouble::TegraId { id: id.clone(), present });
            }
        }
    }
    Ok(wanted)
}

/// Adds what the lists name, and the nodes of a GPU on the PCI bus.
pub fn resolve(
    wish: &NvidiaWish,
    config: &Config,
    host: &Host,
    gpus: &[Gpu],
    plan: &mut Plan,
) -> Result<(), Error> {
    let discrete = discrete(gpus);
    if discrete.len() > 1 {
        return Err(Trouble::TegraPci { count: discrete.len() }.into());
    }
    let gpu = discrete.first().copied();
    let wanted = wanted(&wish.devices, gpu)?;
    let root = Root::open(&config.driver_root)?;
    let mut found = files::collect(&lists(wish, config)?, &root, host)?;
    found.files.extend(root.mount(Path::new(RELEASE), "the release of the system software")?);
    if found.absent > 0 {
        plan.notes.push(format!(
            "{} entries of the lists in {} name nothing that this machine has",
            found.absent,
            config.csv_directory.display()
        ));
    }

    let first_node = plan.devices.len();
    let mut devices = found.devices;
    if gpu.is_some() {
        separate(wanted, host, &mut devices)?;
    }
    if wanted != Wanted::default() {
        for node in devices {
            if plan.devices.iter().all(|known| known.destination != node.destination) {
                plan.devices.push(node);
            }
        }
    }
    if wanted.integrated {
        plan.grants.push(Grant {
            kind: KIND.to_owned(),
            index: 0,
            uuid: String::new(),
            bus_id: String::new(),
            model: format!("{}, integrated", model(host)?),
            part: None,
            asked_as: "0".to_owned(),
        });
    }
    if let Some(gpu) = gpu.filter(|_| wanted.discrete) {
        on_the_bus(gpu, host, plan)?;
    }
    if config.additional_gids {
        join_groups(first_node, plan);
    }

    let cuda = files::cuda(&found.files)?;
    plan.compatibility = compatibility(cuda.as_deref(), &names(host)?, config);
    plan.files.extend(found.files);
    plan.links.extend(found.links);
    if config.unmet != Unmet::Ignored {
        let machine = requirements::Machine { driver: None, cuda };
        requirements::check(&wish.besides.requirements, &machine, config.unmet, plan)?;
    }
    plan.env.push((DEVICES_VARIABLE.to_owned(), "void".to_owned()));
    Ok(())
}

/// Where the image may have newer libraries. They are compared with the version of CUDA that the
/// machine's own libcuda says it is of; where it says none, the image's are not used.
fn compatibility(cuda: Option<&str>, names: &[String], config: &Config) -> Option<Compatibility> {
    let usual = match names.iter().any(|name| name == ORIN) {
        true => ORIN_COMPATIBILITY,
        false => compatibility::DIRECTORY,
    };
    Some(Compatibility {
        directory: config.csv_compatibility.clone().unwrap_or_else(|| usual.into()),
        host_driver: None,
        host_cuda: Some(cuda.filter(|_| config.cuda_compatibility)?.to_owned()),
    })
}

/// The entries of the lists that count for this container.
fn lists(wish: &NvidiaWish, config: &Config) -> Result<Vec<Entry>, Error> {
    let directory = match Tree::open(&config.csv_directory) {
        Ok(directory) => Some(directory),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mut entries: Vec<Entry> = Vec::new();
    if let Some(directory) = directory {
        for name in directory.names(".")? {
            let is_list = Path::new(&name)
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
            if is_list && (wish.besides.every_list || BASE.contains(&name.as_str())) {
                let text = directory.read_text(&name, LONGEST)?.unwrap_or_default();
                entries.extend(csv::parse(&text));
            }
        }
    }
    if entries.is_empty() {
        let names = if wish.besides.every_list { "*.csv".to_owned() } else { BASE.join(", ") };
        return Err(Trouble::TegraLists { names, directory: config.csv_directory.clone() }.into());
    }
    Ok(entries)
}

/// Where there are two GPUs, the lists name the nodes of both.
fn separate(wanted: Wanted, host: &Host, devices: &mut Vec<DeviceNode>) -> Result<(), Error> {
    let is_numbered = |node: &DeviceNode| {
        let name = node.destination.to_str().and_then(|path| path.strip_prefix("/dev/nvidia"));
        name.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    if wanted.integrated {
        devices.retain(|node| node.destination != Path::new(PCI_NODE));
        let own = of_host(host, INTEGRATED_NODE, "integrated GPU".to_owned())?;
        devices.extend(
            own.filter(|own| devices.iter().all(|known| known.destination != own.destination)),
        );
    } else {
        devices.retain(|node| !is_numbered(node));
    }
    Ok(())
}

/// The nodes of the GPU on the PCI bus, which has no part in the lists.
fn on_the_bus(gpu: &Gpu, host: &Host, plan: &mut Plan) -> Result<(), Error> {
    let minor = gpu.minor.ok_or_else(|| Trouble::TegraId {
        id: "1".to_owned(),
        present: format!(
            "GPU {gpu} without a minor number: see the kernel log (dmesg | grep NVRM)"
        ),
    })?;
    let selected = [Selected { gpu, index: 1, minor, mig: None, asked_as: "1".to_owned() }];
    let first = plan.devices.len();
    nodes::add(host, &selected, Capabilities::ALL, plan)?;
    drm::add(host, &selected, Capabilities::ALL, plan)?;
    // The lists have some of the control nodes as well.
    let added = plan.devices.split_off(first);
    for node in added {
        plan.devices.retain(|known| known.destination != node.destination);
        plan.devices.push(node);
    }
    plan.grants.push(Grant {
        kind: KIND.to_owned(),
        index: 1,
        uuid: gpu.uuid.clone().unwrap_or_default(),
        bus_id: gpu.address.to_string(),
        model: gpu.model.clone(),
        part: None,
        asked_as: "1".to_owned(),
    });
    Ok(())
}
