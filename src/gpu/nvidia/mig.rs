//! MIG devices, as the driver lists them in `/proc`: no NVML.
//!
//! `driver/nvidia/capabilities/gpu<minor>/mig/gi<g>/ci<c>/access` exists for each compute instance
//! that was made, and `driver/nvidia-caps/mig-minors` has the minor number of the node that stands
//! for the right to use each instance. A process needs the nodes of the GPU, of the GPU instance
//! and of the compute instance.
//!
//! Two things are assumed of the driver: a GPU with a compute instance is in MIG mode, and the MIG
//! index of NVML (`0:1`) counts the compute instances in the order of their GPU instance's and then
//! their own id, as `nvidia-smi` lists them.

use std::collections::BTreeMap;
use std::fmt;

use super::error::Error;
use crate::host::Host;

/// The directory with one directory per GPU, below proc.
const DIRECTORY: &str = "driver/nvidia/capabilities";

/// The list of minor numbers, below proc.
const MINORS: &str = "driver/nvidia-caps/mig-minors";

/// The list has a line for each instance that could be made on each of 32 GPUs.
const LIMIT: usize = 1 << 20;

/// One MIG device: a compute instance of a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// The id of the GPU instance.
    pub gi: u32,
    /// The id of the compute instance in it.
    pub ci: u32,
    /// NVML's index of the MIG device on its GPU.
    pub index: u32,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MIG device {} (GI {}, CI {})", self.index, self.gi, self.ci)
    }
}

impl Instance {
    /// The file that exists as long as the MIG device does, below proc.
    pub fn access(&self, gpu_minor: u32) -> String {
        format!("{DIRECTORY}/gpu{gpu_minor}/mig/gi{}/ci{}/access", self.gi, self.ci)
    }

    /// The names in the list of minors of the two rights that the MIG device needs.
    pub fn rights(&self, gpu_minor: u32) -> [String; 2] {
        let Self { gi, ci, .. } = self;
        [format!("gpu{gpu_minor}/gi{gi}/access"), format!("gpu{gpu_minor}/gi{gi}/ci{ci}/access")]
    }
}

/// The MIG devices of the GPU with this minor number, in the order of their indexes.
pub fn instances(host: &Host, gpu_minor: u32) -> Result<Vec<Instance>, Error> {
    let directory = format!("{DIRECTORY}/gpu{gpu_minor}/mig");
    let mut found = Vec::new();
    for gi in host.proc.names(&directory)?.iter().filter_map(|name| id(name, "gi")) {
        let below = format!("{directory}/gi{gi}");
        for ci in host.proc.names(&below)?.iter().filter_map(|name| id(name, "ci")) {
            let one = Instance { gi, ci, index: 0 };
            if host.proc.status(one.access(gpu_minor))?.is_some() {
                found.push(one);
            }
        }
    }
    found.sort_unstable();
    for (index, one) in (0..).zip(&mut found) {
        one.index = index;
    }
    Ok(found)
}

/// The names of every right that exists on the machine's GPUs.
pub fn every_right(host: &Host) -> Result<Vec<String>, Error> {
    let mut rights: Vec<String> = Vec::new();
    for gpu in host.proc.names(DIRECTORY)?.iter().filter_map(|name| id(name, "gpu")) {
        for one in instances(host, gpu)? {
            for right in one.rights(gpu) {
                if !rights.contains(&right) {
                    rights.push(right);
                }
            }
        }
    }
    Ok(rights)
}

/// `<prefix><number>`.
fn id(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The minor numbers of the nodes that stand for rights.
#[derive(Debug)]
pub struct Minors(BTreeMap<String, u32>);

impl Minors {
    /// Reads the list; it is empty where the driver has none.
    pub fn read(host: &Host) -> Result<Self, Error> {
        let text = host.proc.read_text(MINORS, LIMIT)?.unwrap_or_default();
        Ok(Self::parse(&text))
    }

    /// Lines of a name and a number; others are skipped.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, minor) = (words.next()?, words.next()?);
            // The kernel's minor numbers have 20 bits.
            let minor = minor.parse().ok().filter(|minor| *minor < 1 << 20)?;
            words.next().is_none().then(|| (name.to_owned(), minor))
        });
        Self(lines.collect())
    }

    /// The number of one, if it is listed.
    pub fn find(&self, right: &str) -> Option<u32> {
        self.0.get(right).copied()
    }

    /// The number of one.
    pub fn of(&self, right: &str, host: &Host) -> Result<u32, Error> {
        self.find(right).ok_or_else(|| Error::NoMigMinor {
            right: right.to_owned(),
            path: host.proc.at(MINORS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_a_name_and_a_number_are_skipped() {
        let text = "config 1\nmonitor 2\ngpu0/gi1/access 3\nx\ngpu0/gi1/ci0/access -1\n\
                    gpu0/gi2/access 1048576\na 1 2\n\u{0}";
        let minors = Minors::parse(text);
        let known: Vec<(&str, u32)> = minors.0.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(known, [("config", 1), ("gpu0/gi1/access", 3), ("monitor", 2)]);
    }

    #[test]
    fn ids_are_numbers_after_their_prefix() {
        assert_eq!(id("gi12", "gi"), Some(12));
        for name in ["gi", "gi-1", "gi+1", "ci1", "gi99999999999", "giant"] {
            assert_eq!(id(name, "gi"), None, "{name}");
        }
    }
}
