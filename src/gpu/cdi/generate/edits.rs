//! From a plan's nodes, files and variables to edits.

use super::places::Places;
use crate::gpu::cdi::spec::{CdiDeviceNode, CdiHook, CdiMount, ContainerEdits};
use crate::gpu::plan::{DeviceKind, DeviceNode, FileKind, FileMount, Plan};

/// The numbers that the kernel gives to character drivers that ask for any: they may be others
/// after the next boot (Documentation/admin-guide/devices.txt).
const DYNAMIC: [std::ops::RangeInclusive<u32>; 2] = [234..=254, 384..=511];

/// The edits that need no hook.
pub(super) fn of(plan: &Plan, places: &Places<'_>) -> ContainerEdits {
    let files = plan.files.iter().map(|file| mount(file, places));
    let mounts = plan.mounts.iter().map(|mount| {
        let typ = mount.typ().as_deref().filter(|typ| *typ != "bind").unwrap_or_default();
        CdiMount {
            host_path: mount.source().as_ref().map(|path| text(path)).unwrap_or_default(),
            container_path: text(mount.destination()),
            options: mount.options().clone().unwrap_or_default(),
            r#type: typ.to_owned(),
        }
    });
    let hooks = plan.hooks.iter().map(|(phase, hook)| CdiHook {
        hook_name: phase.clone(),
        path: text(hook.path()),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout: hook.timeout(),
    });
    ContainerEdits {
        env: plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        device_nodes: plan.devices.iter().map(node).collect(),
        mounts: files.chain(mounts).collect(),
        hooks: hooks.collect(),
        additional_gids: plan.gids.clone(),
        ..ContainerEdits::default()
    }
}

/// Adds what `all` does not have yet.
pub(super) fn unite(all: &mut ContainerEdits, one: &ContainerEdits) {
    fn add<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
        for item in from {
            if !to.contains(item) {
                to.push(item.clone());
            }
        }
    }
    add(&mut all.env, &one.env);
    add(&mut all.device_nodes, &one.device_nodes);
    add(&mut all.mounts, &one.mounts);
    add(&mut all.hooks, &one.hooks);
    add(&mut all.additional_gids, &one.additional_gids);
}

/// A node of the machine whose number may be another one tomorrow has none in the file: the engine
/// looks at the node then. One that the machine does not have can only be made by its numbers.
fn node(node: &DeviceNode) -> CdiDeviceNode {
    let path = text(&node.destination);
    let host_path = node.host_path.as_ref().map(|path| text(path)).unwrap_or_default();
    let is_dynamic =
        node.kind == DeviceKind::Char && DYNAMIC.iter().any(|range| range.contains(&node.major));
    let mut described = CdiDeviceNode {
        host_path: if host_path == path { String::new() } else { host_path },
        path,
        file_mode: Some(node.mode),
        permissions: node.access.clone(),
        gid: (node.gid != 0).then_some(node.gid),
        ..CdiDeviceNode::default()
    };
    if node.host_path.is_none() || !is_dynamic {
        described.r#type = match node.kind {
            DeviceKind::Char => "c",
            DeviceKind::Block => "b",
        }
        .to_owned();
        described.major = node.major.into();
        described.minor = node.minor.into();
    }
    described
}

fn mount(file: &FileMount, places: &Places<'_>) -> CdiMount {
    let options: &[&str] = match file.kind {
        FileKind::Library { .. } | FileKind::Binary => {
            &["ro", "nosuid", "nodev", "rbind", "rprivate"]
        }
        FileKind::Data => &["ro", "nosuid", "nodev", "noexec", "rbind", "rprivate"],
        FileKind::Ipc => &["nosuid", "nodev", "noexec", "rbind", "rprivate"],
    };
    CdiMount {
        host_path: text(&file.source),
        container_path: text(&places.path(file)),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        r#type: String::new(),
    }
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}
