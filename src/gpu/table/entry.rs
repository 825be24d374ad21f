//! The description of a vendor that is no more than a variable and names of nodes.

use std::path::PathBuf;

use super::devices::PCI_DEVICES;
use crate::gpu::nodes::number;
use crate::host::Host;

/// How the variables end. A container with no such variable need not know which are enabled.
pub const SUFFIX: &str = "_VISIBLE_DEVICES";

/// The most devices that one range can mean.
const LONGEST_RANGE: u32 = 128;

/// What an item that no device has leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// An error: the container is not created.
    Error,
    /// A note.
    Note,
}

/// One vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the configuration.
    pub name: String,
    /// The variable that names its devices.
    pub variable: String,
    /// The nodes of a device. The machine must have the first of them.
    pub devices: Vec<Pattern>,
    /// The maker's number in `/sys/bus/pci/devices/*/vendor`, such as `0x1d94`: a device is a PCI
    /// function with DRM nodes, and its index its place on the bus.
    pub pci_vendor: Option<String>,
    /// Nodes that come with any device, where the machine has them; below dev.
    pub common: Vec<String>,
    /// What may stand before an index: `npu-`.
    pub prefixes: Vec<String>,
    /// Whether `0-3` is a range.
    pub ranges: bool,
    /// Whether `all` means every device.
    pub all: bool,
    /// What an item that no device has leads to.
    pub unknown: Unknown,
}

/// The name of a node below dev, in two parts around the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: String,
}

impl Pattern {
    /// Reads `/dev/davinci{}`. `None`: it is not below `/dev`, or has not one place for the index
    /// in its last part.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = below_dev(text)?.split_once("{}")?;
        (!after.contains(['{', '}', '/']) && !before.contains(['{', '}']))
            .then(|| Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// The name of the node with this index.
    #[must_use]
    pub fn with(&self, index: u32) -> String {
        format!("{}{index}{}", self.before, self.after)
    }

    /// The directory that holds the nodes.
    #[must_use]
    pub fn directory(&self) -> &str {
        match self.before.rsplit_once('/') {
            Some((directory, _)) => directory,
            None => ".",
        }
    }

    /// The index in a name of that directory.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<u32> {
        let before = self.before.rsplit('/').next().unwrap_or_default();
        number(name.strip_suffix(self.after.as_str())?, before)
    }
}

/// The part after `/dev/`, if it is the plain name of a node there.
#[must_use]
pub fn below_dev(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/dev/")?;
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    name.split('/').all(is_plain).then_some(name)
}

impl Entry {
    /// The indexes that an item of the list means. `None`: it means nothing.
    #[must_use]
    pub fn indexes(&self, item: &str) -> Option<Vec<u32>> {
        let plain = self.prefixes.iter().find_map(|prefix| item.strip_prefix(prefix.as_str()));
        if let Some(index) = number(plain.unwrap_or(item), "") {
            return Some(vec![index]);
        }
        let (first, last) = item.split_once('-').filter(|_| self.ranges)?;
        let (first, last) = (number(first, "")?, number(last, "")?);
        (first <= last && last - first < LONGEST_RANGE).then(|| (first..=last).collect())
    }

    /// Where the machine's devices are looked for, for an error.
    #[must_use]
    pub fn place(&self, host: &Host) -> PathBuf {
        match (&self.pci_vendor, self.devices.first()) {
            (None, Some(pattern)) => host.dev.at(pattern.with(0)),
            _ => host.sys.at(PCI_DEVICES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_place_for_the_index() {
        for (text, directory, name) in [
            ("/dev/davinci{}", ".", "davinci7"),
            ("/dev/accel/x{}y", "accel", "accel/x7y"),
            ("/dev/{}", ".", "7"),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!((pattern.directory(), pattern.with(7).as_str()), (directory, name));
            assert_eq!(pattern.index(name.rsplit('/').next().unwrap()), Some(7));
        }
        for text in [
            "davinci{}",
            "/dev/davinci",
            "/dev/a{}b{}",
            "/dev/{}/x",
            "/dev/a{0}",
            "/dev/../x{}",
            "/dev//x{}",
            "/devx{}",
            "/sys/x{}",
            "/dev/",
        ] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
        let pattern = Pattern::parse("/dev/davinci{}").unwrap();
        for name in ["davinci_manager", "davinci", "davinci1x", "xdavinci1"] {
            assert_eq!(pattern.index(name), None, "{name}");
        }
    }
}
