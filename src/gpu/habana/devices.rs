//! Gaudi devices and their nodes.
//!
//! Since Linux 6.3 they are of the class `accel`: `/dev/accel/accel0` and
//! `/dev/accel/accel_controlD0`. Older drivers have a class of their own: `/dev/hl0` and
//! `/dev/hl_controlD0`.

use std::path::Path;

use super::error::Error;
use crate::gpu::accel;
use crate::gpu::nodes;
use crate::gpu::pci::Function;
use crate::gpu::plan::Plan;
use crate::host::{Host, HostError};

/// Habana's number among the makers of PCI devices.
const PCI_VENDOR: &str = "0x1da3";

/// A class of devices that a driver has registered.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    /// Its directory, below sys.
    directory: &'static str,
    /// How the names of its devices begin.
    prefix: &'static str,
    /// How those of their control devices do.
    control: &'static str,
    /// The directory of the nodes, below dev.
    dev: &'static str,
}

static CLASSES: [Class; 2] = [
    Class {
        directory: accel::DIRECTORY,
        prefix: "accel",
        control: "accel_controlD",
        dev: "accel/",
    },
    Class { directory: "class/habanalabs", prefix: "hl", control: "hl_controlD", dev: "" },
];

/// One device.
#[derive(Debug, PartialEq, Eq)]
pub struct Gaudi {
    /// Its index: the number in the names of its nodes.
    pub number: u32,
    /// The PCI function that it is.
    pub function: Function,
    /// The driver's name for its type, such as `GAUDI2`; else its PCI numbers.
    pub model: String,
    /// The class that lists it.
    pub class: &'static Class,
}

impl Gaudi {
    /// Whether this is an id of the device: its index, the name of its node, or address and
    /// product.
    #[must_use]
    pub fn is_called(&self, id: &str) -> bool {
        let digits = id.strip_prefix(self.class.prefix).unwrap_or(id);
        nodes::number(digits, "") == Some(self.number) || id == self.function.machine_name()
    }

    /// Its nodes: the directory of sysfs that has the numbers, and the name below dev.
    #[must_use]
    pub fn nodes(&self) -> [(String, String); 2] {
        let Class { directory, prefix, control, dev } = self.class;
        [prefix, control].map(|prefix| {
            let name = format!("{prefix}{}", self.number);
            (format!("{directory}/{name}"), format!("{dev}{name}"))
        })
    }
}

/// Whether a node of this path is that of a device.
#[must_use]
pub fn is_node(path: &Path) -> bool {
    let name = path.strip_prefix("/dev").ok().and_then(Path::to_str);
    name.is_some_and(|name| {
        let of_class = |class: &Class| {
            name.strip_prefix(class.dev).and_then(|name| nodes::number(name, class.prefix))
        };
        CLASSES.iter().any(|class| of_class(class).is_some())
    })
}

/// The devices by index.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host) -> Result<Vec<Gaudi>, HostError> {
    for class in &CLASSES {
        let Class { directory, prefix, .. } = class;
        let found = accel::of_class(host, directory, prefix, PCI_VENDOR)?;
        if !found.is_empty() {
            let all = found.into_iter().map(|one| {
                let path = format!("{directory}/{prefix}{}/device/device_type", one.number);
                let text = host.sys.read_text(path, 64)?.map(|text| text.trim().to_owned());
                let model = text.filter(|text| !text.is_empty());
                let model = model.unwrap_or_else(|| format!("Gaudi {}", one.function.numbers()));
                Ok(Gaudi { number: one.number, function: one.function, model, class })
            });
            return all.collect();
        }
    }
    Ok(Vec::new())
}

/// Adds a device's nodes.
///
/// # Errors
/// It has no node, or something cannot be read.
pub fn add(
    host: &Host,
    one: &Gaudi,
    asked_as: &str,
    uverbs: bool,
    plan: &mut Plan,
) -> Result<(), Error> {
    let why = format!("Gaudi {}, asked for as {asked_as}", one.number);
    let [own, control] = one.nodes();
    let (directory, name) = own;
    let node = nodes::of_sysfs(host, &directory, &name, why.clone())?;
    nodes::add(node.ok_or_else(|| Error::NoNode { node: host.dev.at(name) })?, plan);
    let (directory, name) = control;
    match nodes::of_sysfs(host, &directory, &name, why.clone())? {
        Some(node) => nodes::add(node, plan),
        None => {
            plan.notes.push(format!("{} does not exist: left out", host.dev.at(name).display()))
        }
    }
    if uverbs {
        let verbs = format!("class/infiniband/hlib_{}/device/infiniband_verbs", one.number);
        let mut found = false;
        for name in host.sys.names(&verbs)? {
            let (directory, node) = (format!("{verbs}/{name}"), format!("infiniband/{name}"));
            if let Some(node) = nodes::of_sysfs(host, &directory, &node, why.clone())? {
                nodes::add(node, plan);
                found = true;
            }
        }
        if !found {
            let directory = host.sys.at(verbs);
            plan.notes.push(format!("{} lists no InfiniBand node", directory.display()));
        }
    }
    Ok(())
}
