//! From a device's edits to the plan (`pkg/cdi/container-edits.go` of the reference
//! implementation).

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook, HookBuilder, LinuxIntelRdt, LinuxIntelRdtBuilder, Mount, MountBuilder,
};
use rustix::fs::FileType;

use super::registry::Resolved;
use super::spec::{CdiDeviceNode, CdiHook, CdiIntelRdt, CdiMount, ContainerEdits};
use crate::gpu::error::GpuError;
use crate::gpu::plan::{DeviceKind, DeviceNode, Plan};
use crate::host::{Host, HostError, Status, Tree};

/// The access of a device rule when the file names none.
const DEFAULT_PERMISSIONS: &str = "rwm";

/// The mode of a node that neither the file nor the host knows, as for a device of a spec.
const DEFAULT_MODE: u32 = 0o666;

/// The ids that nodes without an owner get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user of the container's process.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A device node that cannot be given.
#[derive(Debug, thiserror::Error)]
#[error("CDI file {}: device node {node}: {reason}", file.display())]
pub struct NodeError {
    /// The file.
    pub file: PathBuf,
    /// The node's path.
    pub node: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Adds one device's edits to the plan.
///
/// # Errors
/// A node that is neither fully described nor on the host.
pub fn add(
    resolved: &Resolved<'_>,
    owner: Owner,
    host: &Host,
    plan: &mut Plan,
) -> Result<(), GpuError> {
    let ContainerEdits {
        env,
        device_nodes,
        net_devices,
        hooks,
        mounts,
        intel_rdt,
        additional_gids,
    } = resolved.edits;
    let file = resolved.file.display();
    let why = match resolved.device {
        Some(device) => format!("{device} of {file}"),
        None => format!("all devices of {file}"),
    };
    for entry in env {
        if let Some((name, value)) = entry.split_once('=') {
            plan.env.retain(|(known, _)| known != name);
            plan.env.push((name.to_owned(), value.to_owned()));
        }
    }
    for described in device_nodes {
        let node = node(described, owner, host, &why)?.map_err(|reason| NodeError {
            file: resolved.file.to_owned(),
            node: described.path.clone(),
            reason,
        })?;
        plan.devices.retain(|known| known.destination != node.destination);
        plan.devices.push(node);
    }
    for device in net_devices {
        plan.net_devices.retain(|(host, _)| *host != device.host_interface_name);
        plan.net_devices.push((device.host_interface_name.clone(), device.name.clone()));
    }
    plan.hooks.extend(hooks.iter().map(|described| (described.hook_name.clone(), hook(described))));
    plan.mounts.extend(mounts.iter().filter_map(mount));
    if let Some(rdt) = intel_rdt {
        plan.intel_rdt = intel_rdt_of(rdt);
    }
    for gid in additional_gids.iter().copied().filter(|gid| *gid != 0) {
        if !plan.gids.contains(&gid) {
            plan.gids.push(gid);
        }
    }
    Ok(())
}

/// Every path of the host that the edits bind, for a check whether it is still there.
pub fn sources(edits: &ContainerEdits) -> impl Iterator<Item = &Path> {
    edits.mounts.iter().filter(|mount| is_bind(mount)).map(|mount| Path::new(&mount.host_path))
}

fn is_bind(mount: &CdiMount) -> bool {
    let bind = |option: &String| option == "bind" || option == "rbind";
    mount.r#type == "bind" || (mount.r#type.is_empty() && mount.options.iter().any(bind))
}

/// The node as the file describes it, completed by what is on the host. A node with a type and a
/// major number need not be on the host: whoever wrote the file may create it later.
fn node(
    described: &CdiDeviceNode,
    owner: Owner,
    host: &Host,
    why: &str,
) -> Result<Result<DeviceNode, String>, HostError> {
    let path = match described.host_path.as_str() {
        "" => Path::new(&described.path),
        path => Path::new(path),
    };
    let kind = match described.r#type.as_str() {
        "" => None,
        "b" => Some(DeviceKind::Block),
        "p" => return Ok(Err("a FIFO is not given as a device; mount the host's".to_owned())),
        _ => Some(DeviceKind::Char),
    };
    let found = look(host, path)?;
    let device = found.as_ref().and_then(|(_, status)| Some((*status, kind_of(status.kind)?)));
    let path = path.display();
    let (kind, major, minor) = match (kind, device) {
        (Some(kind), _) if described.major != 0 => (kind, described.major, described.minor),
        (_, None) if found.is_some() => return Ok(Err(format!("{path} is no device"))),
        (_, None) => {
            return Ok(Err(format!(
                "{path} does not exist, and the file names no type and major; \
                 load the driver, or generate the file again"
            )));
        }
        (Some(wanted), Some((_, kind))) if wanted != kind => {
            return Ok(Err(format!("{path} is not of type {:?}", described.r#type)));
        }
        (_, Some((status, kind))) => (kind, status.major.into(), status.minor.into()),
    };
    let (Ok(major), Ok(minor)) = (u32::try_from(major), u32::try_from(minor)) else {
        return Ok(Err(format!("{major}:{minor} is no device number")));
    };
    let is_it = device.is_some_and(|(status, found)| {
        found == kind && (status.major, status.minor) == (major, minor)
    });
    let mode = described.file_mode.or_else(|| device.map(|(status, _)| status.mode));
    Ok(Ok(DeviceNode {
        destination: described.path.clone().into(),
        host_path: found.filter(|_| is_it).map(|(path, _)| path),
        kind,
        major,
        minor,
        mode: mode.unwrap_or(DEFAULT_MODE) & 0o777,
        uid: described.uid.unwrap_or(owner.uid),
        gid: described.gid.unwrap_or(owner.gid),
        access: match described.permissions.as_str() {
            "" => DEFAULT_PERMISSIONS.to_owned(),
            "none" => String::new(),
            some => some.to_owned(),
        },
        why: why.to_owned(),
    }))
}

/// What is at a path of the host; what is below `/dev` is looked at where the host's nodes are.
fn look(host: &Host, path: &Path) -> Result<Option<(PathBuf, Status)>, HostError> {
    match path.strip_prefix("/dev") {
        Ok(below) => Ok(host.dev.link_status(below)?.map(|status| (host.dev.at(below), status))),
        Err(_) => {
            let root = Tree::open(Path::new("/"))?;
            Ok(root.link_status(path)?.map(|status| (path.to_owned(), status)))
        }
    }
}

fn kind_of(kind: FileType) -> Option<DeviceKind> {
    match kind {
        FileType::CharacterDevice => Some(DeviceKind::Char),
        FileType::BlockDevice => Some(DeviceKind::Block),
        _ => None,
    }
}

fn mount(described: &CdiMount) -> Option<Mount> {
    let typ = match described.r#type.as_str() {
        "" if is_bind(described) => "bind",
        other => other,
    };
    // Every field has a default, so building cannot fail.
    MountBuilder::default()
        .source(&described.host_path)
        .destination(&described.container_path)
        .typ(typ)
        .options(described.options.clone())
        .build()
        .ok()
}

fn hook(described: &CdiHook) -> Hook {
    let mut hook = HookBuilder::default().path(&described.path).build().unwrap_or_default();
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    hook.set_args(some(&described.args));
    hook.set_env(some(&described.env));
    hook.set_timeout(described.timeout);
    hook
}

fn intel_rdt_of(rdt: &CdiIntelRdt) -> Option<LinuxIntelRdt> {
    let mut built = LinuxIntelRdtBuilder::default().build().ok()?;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    built.set_clos_id(text(&rdt.clos_id));
    built.set_l3_cache_schema(text(&rdt.l3_cache_schema));
    built.set_mem_bw_schema(text(&rdt.mem_bw_schema));
    built.set_schemata((!rdt.schemata.is_empty()).then(|| rdt.schemata.clone()));
    built.set_enable_monitoring(rdt.enable_monitoring.then_some(true));
    Some(built)
}
