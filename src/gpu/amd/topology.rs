//! What the compute driver (KFD) lists below `/sys/class/kfd`.

use std::collections::BTreeMap;

use crate::gpu::pci::Address;
use crate::host::{Host, HostError};

/// The driver's directory, below sys.
pub const DIRECTORY: &str = "class/kfd/kfd";

/// The longest list of properties that is read.
const LONGEST: usize = 64 * 1024;

/// What KFD says of a node that is a GPU or a partition of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The GPU's place on the PCI bus, whichever of its functions.
    pub parent: Address,
    /// The number that identifies the GPU for all time; its partitions share it.
    pub unique_id: Option<u64>,
}

/// The nodes by the minor number of their render node. CPUs have none.
///
/// # Errors
/// A directory that cannot be listed. Properties that cannot be read are as good as none: KFD
/// hides nodes that the caller's device rules forbid.
pub fn read(host: &Host) -> Result<BTreeMap<u32, Node>, HostError> {
    let directory = format!("{DIRECTORY}/topology/nodes");
    let mut nodes = BTreeMap::new();
    for name in host.sys.names(&directory)? {
        let path = format!("{directory}/{name}/properties");
        let Ok(Some(text)) = host.sys.read_text(path, LONGEST) else {
            continue;
        };
        nodes.extend(node(&text));
    }
    Ok(nodes)
}

/// What the properties of a node say, by the minor number of its render node. `None`: it has none.
#[must_use]
pub fn node(text: &str) -> Option<(u32, Node)> {
    let property = |name: &str| -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let minor = property("drm_render_minor").filter(|minor| *minor > 0)?;
    let minor = u32::try_from(minor).ok()?;
    let parent = parent(property("domain").unwrap_or(0), property("location_id").unwrap_or(0));
    let unique_id = property("unique_id").filter(|id| *id != 0);
    Some((minor, Node { parent, unique_id }))
}

/// The place on the bus: bits 8 to 15 of the location are the bus, bits 3 to 7 the device. The
/// function is left out, as partitions may have one of their own.
fn parent(domain: u64, location: u64) -> Address {
    let bits = |shift: u32, mask: u64| u8::try_from((location >> shift) & mask).unwrap_or(0);
    Address {
        domain: u32::try_from(domain).unwrap_or(u32::MAX),
        bus: bits(8, 0xff),
        device: bits(3, 0x1f),
        function: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_the_location_without_its_function() {
        assert_eq!(parent(0, 0x0c00).to_string(), "0000:0c:00.0");
        assert_eq!(parent(1, 0x0c0b).to_string(), "0001:0c:01.0");
        assert_eq!(parent(0x10000, 0xffff_ff00 | 7).to_string(), "10000:ff:00.0");
    }
}
