//! NVIDIA's device nodes: which, with which numbers.
//!
//! The numbers come from the kernel's list of majors, not from the nodes on the host, which may
//! be missing (nothing has used the GPU since boot) or stale. A host node lends its permission
//! bits and group, and is what gets bound where mknod is not allowed.

use std::path::PathBuf;

use rustix::fs::FileType;

use super::capabilities::Capabilities;
use super::error::Error;
use super::kernel::{self, Majors};
use super::select::Selected;
pub use crate::gpu::nodes::has;
use crate::gpu::plan::{DeviceKind, DeviceNode, Plan};
use crate::host::Host;

/// Fixed by the driver: `nvidia-modeset`, `nvidiactl`, and the two nodes of `nvidia-uvm`.
const MODESET: u32 = 254;
/// See `MODESET`.
pub const CONTROL: u32 = 255;
/// See `MODESET`.
pub const UVM: u32 = 0;
const UVM_TOOLS: u32 = 1;

/// The mode that the driver gives its nodes.
const MODE: u32 = 0o666;

/// Adds the control nodes and each GPU's node.
pub fn add(
    host: &Host,
    selected: &[Selected<'_>],
    wanted: Capabilities,
    plan: &mut Plan,
) -> Result<(), Error> {
    let Majors { nvidia, uvm } = kernel::majors(host)?;
    let missing = |name, module| Error::NoMajor { name, module, path: host.proc.at("devices") };
    let major = nvidia.ok_or_else(|| missing("nvidia", "nvidia"))?;

    let control = node(host, "nvidiactl", major, CONTROL, "control".to_owned(), &mut plan.notes)?;
    plan.devices.push(control);
    if wanted.any(Capabilities::COMPUTE.or(Capabilities::VIDEO)) {
        match uvm {
            Some(major) => {
                for (name, minor) in [("nvidia-uvm", UVM), ("nvidia-uvm-tools", UVM_TOOLS)] {
                    let why = "unified memory, for compute".to_owned();
                    let node = node(host, name, major, minor, why, &mut plan.notes)?;
                    plan.devices.push(node);
                }
            }
            // Without it cuInit fails with a number that says nothing.
            None if !selected.is_empty() => return Err(missing("nvidia-uvm", "nvidia-uvm")),
            None => plan.notes.push("nvidia-uvm is not loaded: its nodes are left out".to_owned()),
        }
    }
    // NVIDIA's runtime gives this node to every container when the host has it; graphics cannot
    // do without.
    let modeset =
        node(host, "nvidia-modeset", major, MODESET, "modeset".to_owned(), &mut plan.notes)?;
    let for_graphics = wanted.any(Capabilities::GRAPHICS.or(Capabilities::DISPLAY));
    if modeset.host_path.is_some() || for_graphics {
        plan.devices.push(modeset);
    }
    for one in selected {
        let name = format!("nvidia{}", one.minor);
        // Two MIG devices of one GPU.
        if has(plan, &name) {
            continue;
        }
        let why = format!("GPU {}, asked for as {}", one.index, one.asked_as);
        let node = node(host, &name, major, one.minor, why, &mut plan.notes)?;
        plan.devices.push(node);
    }
    Ok(())
}

/// The major number that `module` registered by this name.
pub fn major(host: &Host, name: &'static str, module: &'static str) -> Result<u32, Error> {
    let text = host.proc.read_text("devices", 64 * 1024)?.unwrap_or_default();
    let found = text
        .lines()
        .skip_while(|line| !line.starts_with("Character devices"))
        .take_while(|line| !line.starts_with("Block devices"))
        .find_map(|line| {
            let (number, known) = line.trim().split_once(' ')?;
            if known.trim() == name { number.parse().ok() } else { None }
        });
    found.ok_or_else(|| Error::NoMajor { name, module, path: host.proc.at("devices") })
}

/// Describes `/dev/<name>` with these numbers.
pub fn node(
    host: &Host,
    name: &str,
    major: u32,
    minor: u32,
    why: String,
    notes: &mut Vec<String>,
) -> Result<DeviceNode, Error> {
    let mut node = DeviceNode {
        destination: PathBuf::from("/dev").join(name),
        host_path: None,
        kind: DeviceKind::Char,
        major,
        minor,
        mode: MODE,
        uid: 0,
        gid: 0,
        access: "rwm".to_owned(),
        why,
    };
    match host.dev.link_status(name)? {
        None => {}
        Some(status)
            if status.kind == FileType::CharacterDevice
                && (status.major, status.minor) == (major, minor) =>
        {
            node.host_path = Some(host.dev.at(name));
            node.mode = status.mode & 0o777;
            node.gid = status.gid;
        }
        Some(_) => notes.push(format!(
            "{} is not the character device {major}:{minor}: not used",
            host.dev.at(name).display()
        )),
    }
    Ok(node)
}
