//! Accelerators of the kernel's class `accel`: `/dev/accel/accel0`, ….

use super::nodes;
use super::pci::Function;
use crate::host::{Host, HostError};

/// The class's directory, below sys.
pub const DIRECTORY: &str = "class/accel";

/// One accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accel {
    /// The number in the name of its node.
    pub number: u32,
    /// The PCI function that it is.
    pub function: Function,
}

/// The accelerators of one maker, by number.
///
/// # Errors
/// What cannot be read.
pub fn of_vendor(host: &Host, vendor: &str) -> Result<Vec<Accel>, HostError> {
    of_class(host, DIRECTORY, "accel", vendor)
}

/// As [`of_vendor`], of a class in this directory whose devices' names begin so.
///
/// # Errors
/// What cannot be read.
pub fn of_class(
    host: &Host,
    directory: &str,
    prefix: &str,
    vendor: &str,
) -> Result<Vec<Accel>, HostError> {
    let mut found = Vec::new();
    for name in host.sys.names(directory)? {
        let Some(number) = nodes::number(&name, prefix) else {
            continue;
        };
        let function = Function::read(host, &format!("{directory}/{name}/device"))?;
        if let Some(function) = function.filter(|function| function.vendor == vendor) {
            found.push(Accel { number, function });
        }
    }
    found.sort_by_key(|one| one.number);
    Ok(found)
}
