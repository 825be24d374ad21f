//! Intel's NPUs (`/dev/accel/accel0`).

use super::error::Error;
use super::{Found, PCI_VENDOR, accel, nodes};
use crate::gpu::plan::Plan;
use crate::host::{Host, HostError};

/// The NPUs by number.
///
/// # Errors
/// What cannot be read.
pub fn read(host: &Host) -> Result<Vec<Found>, HostError> {
    let all = accel::of_vendor(host, PCI_VENDOR)?.into_iter();
    let found = all.map(|one| Found {
        name: format!("accel{}", one.number),
        number: one.number,
        function: one.function,
    });
    Ok(found.collect())
}

/// Adds an NPU's node.
///
/// # Errors
/// It has none, or it cannot be read.
pub fn add(host: &Host, one: &Found, why: &str, plan: &mut Plan) -> Result<(), Error> {
    let directory = format!("{}/{}", accel::DIRECTORY, one.name);
    let node = format!("accel/{}", one.name);
    match nodes::of_sysfs(host, &directory, &node, why.to_owned())? {
        Some(node) => nodes::add(node, plan),
        None => {
            let node = host.dev.at(node).display().to_string();
            return Err(Error::NoNode { name: one.name.clone(), node });
        }
    }
    Ok(())
}
