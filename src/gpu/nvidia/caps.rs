//! The nodes of `/dev/nvidia-caps`, each of which stands for a right: to use a MIG device, to
//! configure MIG, to watch it.

use super::error::Error;
use super::mig::{self, Minors};
use super::nodes;
use super::select::Selected;
use super::wish::Administration;
use crate::gpu::plan::Plan;
use crate::host::Host;

/// The driver's modes of these nodes: anyone who sees one may open it.
const MODE: u32 = 0o444;
const ADMINISTRATION_MODE: u32 = 0o400;

/// Adds the nodes of the selected MIG devices, and those for the administration of MIG. Nothing is
/// read where none is asked for.
pub fn add(
    host: &Host,
    selected: &[Selected<'_>],
    administration: Administration,
    plan: &mut Plan,
) -> Result<(), Error> {
    let mut wanted: Vec<(String, String, u32)> = Vec::new();
    for one in selected {
        if let Some(instance) = &one.mig {
            for right in instance.rights(one.minor) {
                wanted.push((right, format!("{instance} of GPU {}", one.index), MODE));
            }
        }
    }
    for (is_wanted, name) in
        [(administration.config, "config"), (administration.monitor, "monitor")]
    {
        if is_wanted {
            let why = format!("MIG {name} of all GPUs");
            wanted.push((name.to_owned(), why.clone(), ADMINISTRATION_MODE));
            let rights = mig::every_right(host)?.into_iter();
            wanted.extend(rights.map(|right| (right, why.clone(), MODE)));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let major = nodes::major(host, "nvidia-caps", "nvidia")?;
    let minors = Minors::read(host)?;
    for (right, why, mode) in wanted {
        let minor = minors.of(&right, host)?;
        let name = format!("nvidia-caps/nvidia-cap{minor}");
        if nodes::has(plan, &name) {
            continue;
        }
        let mut node = nodes::node(host, &name, major, minor, why, &mut plan.notes)?;
        if node.host_path.is_none() {
            node.mode = mode;
        }
        plan.devices.push(node);
    }
    Ok(())
}
