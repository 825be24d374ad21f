//! The GPUs of the machine, as the driver lists them below `/proc/driver/nvidia/gpus`.
//!
//! A GPU's index is its place among the GPUs that are not excluded, ordered by PCI address. Its
//! minor number, which names its device node, is the driver's and can differ.

use std::fmt;
use std::path::Path;

use super::error::Error;
use crate::gpu::pci::Address;
use crate::gpu::plan::{Filter, Plan};
use crate::host::Host;

/// The directory that lists GPUs, below proc.
pub const DIRECTORY: &str = "driver/nvidia/gpus";

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The driver's index; `None` for an excluded GPU, which has none.
    pub index: Option<u32>,
    /// The full UUID, `GPU-…`; `None` when the driver has not initialised the GPU.
    pub uuid: Option<String>,
    /// Where it is on the PCI bus.
    pub address: Address,
    /// The minor number of its device node.
    pub minor: Option<u32>,
    /// The product name; may be empty.
    pub model: String,
    /// Whether the driver was told to leave it alone.
    pub excluded: bool,
    /// The name of its directory, which is the driver's spelling of the address.
    pub directory: String,
}

impl Gpu {
    /// The path of the information file, below proc.
    pub fn information(&self) -> String {
        format!("{DIRECTORY}/{}/information", self.directory)
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{index}: ")?,
            None => f.write_str("excluded: ")?,
        }
        let uuid = self.uuid.as_deref().unwrap_or("no UUID");
        write!(f, "{uuid}, {}, {}", self.address, self.model)
    }
}

/// Reads the list, ordered by PCI address. Directories that are no PCI address are left out.
pub fn read(host: &Host) -> Result<Vec<Gpu>, Error> {
    let mut gpus = Vec::new();
    for directory in host.proc.names(DIRECTORY)? {
        let Some(address) = Address::parse(&directory) else {
            continue;
        };
        let path = format!("{DIRECTORY}/{directory}/information");
        // A GPU in a bad state can make reading fail. That is its own trouble, not the others'.
        let text = host.proc.read_text(&path, 16 * 1024).ok().flatten().unwrap_or_default();
        gpus.push(parse(directory, address, &text));
    }
    gpus.sort_by_key(|gpu| gpu.address);
    for (index, gpu) in (0..).zip(gpus.iter_mut().filter(|gpu| !gpu.excluded)) {
        gpu.index = Some(index);
    }
    Ok(gpus)
}

/// Hides the GPUs that are not among `granted` (their directories) from the container's proc. A
/// plan has one such filter: what another request of the same container was granted stays visible.
pub fn filter<'a>(
    host: &Host,
    granted: impl Iterator<Item = &'a Gpu>,
    plan: &mut Plan,
) -> Result<(), Error> {
    let destination = Path::new("/proc").join(DIRECTORY);
    let known = plan.filters.iter().position(|known| known.destination == destination);
    let mut keep = known.map(|index| plan.filters.remove(index).keep).unwrap_or_default();
    for gpu in granted {
        if !keep.contains(&gpu.directory) {
            keep.push(gpu.directory.clone());
        }
    }
    if host.proc.names(DIRECTORY)?.iter().any(|name| !keep.contains(name)) {
        let why = "the container has no other GPU".to_owned();
        plan.filters.push(Filter { destination, keep, why });
    }
    Ok(())
}

pub(super) fn parse(directory: String, address: Address, text: &str) -> Gpu {
    let mut gpu = Gpu {
        index: None,
        uuid: None,
        address,
        minor: None,
        model: String::new(),
        excluded: false,
        directory,
    };
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "Model" => {
                let printable = value.chars().filter(|c| !c.is_control());
                gpu.model = printable.take(128).collect();
            }
            "GPU UUID" => gpu.uuid = is_uuid(value).then(|| value.to_owned()),
            // The kernel's minor numbers have 20 bits.
            "Device Minor" => gpu.minor = value.parse().ok().filter(|minor| *minor < 1 << 20),
            "GPU Excluded" => gpu.excluded = value.eq_ignore_ascii_case("yes"),
            _ => {}
        }
    }
    gpu
}

/// `GPU-` and a UUID. An uninitialised GPU has question marks there.
pub fn is_uuid(text: &str) -> bool {
    after_prefix(text).is_some_and(is_bare_uuid)
}

/// Whether it can be the beginning of a UUID: `GPU-` and at least one digit.
pub fn is_uuid_prefix(text: &str) -> bool {
    after_prefix(text).is_some_and(|digits| {
        digits.starts_with(|c: char| c.is_ascii_hexdigit()) && digits.bytes().all(is_in_uuid)
    })
}

/// Five groups of 8, 4, 4, 4 and 12 hexadecimal digits.
pub fn is_bare_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.bytes().all(is_in_uuid)
}

fn after_prefix(text: &str) -> Option<&str> {
    let (prefix, digits) = text.split_at_checked(4)?;
    prefix.eq_ignore_ascii_case("GPU-").then_some(digits)
}

fn is_in_uuid(byte: u8) -> bool {
    byte == b'-' || byte.is_ascii_hexdigit()
}
