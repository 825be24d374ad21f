//! What of a plan the spec can say: devices, device rules, environment, groups, mounts, hooks,
//! network interfaces and RDT.
//!
//! They join the in-memory spec so that cgroups, `update` and `state` see one truth. The bundle's
//! file is never written.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook, Hooks, Linux, LinuxBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxNetDevice, LinuxResources, Mount, Process,
    Spec,
};

use super::lexical::joined;
use super::plan::{DeviceKind, DeviceNode, Plan};

impl Plan {
    /// Adds to the spec what of the plan it can say. What the spec has already is not added a
    /// second time; a device of the same path but other numbers, a mount on the same place and a
    /// variable of the same name are replaced.
    pub fn merge_into(&self, spec: &mut Spec) {
        if !self.devices.is_empty() {
            let linux = spec.linux_mut().get_or_insert_with(empty_linux);
            for device in &self.devices {
                add_node(linux.devices_mut().get_or_insert_with(Vec::new), device);
            }
            let resources = linux.resources_mut().get_or_insert_with(LinuxResources::default);
            let rules = resources.devices_mut().get_or_insert_with(Vec::new);
            for device in self.devices.iter().filter(|device| !device.access.is_empty()) {
                add_rule(rules, device);
            }
        }
        if !self.mounts.is_empty() {
            merge_mounts(spec.mounts_mut().get_or_insert_with(Vec::new), &self.mounts);
        }
        if !self.hooks.is_empty() {
            let hooks = spec.hooks_mut().get_or_insert_with(Hooks::default);
            for (phase, hook) in &self.hooks {
                add_hook(hooks, phase, hook);
            }
        }
        if !self.net_devices.is_empty() || self.intel_rdt.is_some() {
            let linux = spec.linux_mut().get_or_insert_with(empty_linux);
            if let Some(rdt) = &self.intel_rdt {
                linux.set_intel_rdt(Some(rdt.clone()));
            }
            for (host, name) in &self.net_devices {
                let mut device = LinuxNetDevice::default();
                device.set_name(Some(name.clone()));
                let all = linux.net_devices_mut().get_or_insert_default();
                all.insert(host.clone(), device);
            }
        }
        if let Some(process) = spec.process_mut() {
            self.merge_into_process(process);
        }
    }

    fn merge_into_process(&self, process: &mut Process) {
        if !self.env.is_empty() {
            let env = process.env_mut().get_or_insert_with(Vec::new);
            for (name, value) in &self.env {
                set_variable(env, name, value);
            }
        }
        if !self.gids.is_empty() {
            let gids = process.user_mut().additional_gids_mut().get_or_insert_with(Vec::new);
            for gid in &self.gids {
                if !gids.contains(gid) {
                    gids.push(*gid);
                }
            }
        }
    }
}

/// `Linux::default()` would add namespaces and masked paths that the spec does not have.
fn empty_linux() -> Linux {
    let mut linux = LinuxBuilder::default().build().unwrap_or_default();
    linux.set_namespaces(None);
    linux.set_resources(None);
    linux.set_masked_paths(None);
    linux.set_readonly_paths(None);
    linux
}

fn kind_of(device: &DeviceNode) -> LinuxDeviceType {
    match device.kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

fn add_node(devices: &mut Vec<LinuxDevice>, device: &DeviceNode) {
    let (kind, major, minor) = (kind_of(device), i64::from(device.major), i64::from(device.minor));
    let same_path = |known: &LinuxDevice| *known.path() == device.destination;
    let same = |known: &LinuxDevice| {
        same_path(known) && known.typ() == kind && known.major() == major && known.minor() == minor
    };
    if devices.iter().any(same) {
        return;
    }
    devices.retain(|known| !same_path(known));
    let built = LinuxDeviceBuilder::default()
        .path(device.destination.clone())
        .typ(kind)
        .major(major)
        .minor(minor)
        .file_mode(device.mode)
        .uid(device.uid)
        .gid(device.gid)
        .build();
    // Every field has a default, so building cannot fail.
    devices.extend(built);
}

fn add_rule(rules: &mut Vec<LinuxDeviceCgroup>, device: &DeviceNode) {
    let built = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(kind_of(device))
        .major(device.major)
        .minor(device.minor)
        .access(device.access.clone())
        .build();
    let Ok(rule) = built else { return };
    // A later rule wins over an earlier one, so an equal rule counts only if no denial follows it.
    let after_last_denial = rules.iter().rposition(|known| !known.allow()).map_or(0, |at| at + 1);
    if !rules.iter().skip(after_last_denial).any(|known| *known == rule) {
        rules.push(rule);
    }
}

/// A mount on the same place is replaced; all are then ordered by their depth, so that none
/// hides one that was mounted before it. Of equal depth they stay in order.
fn merge_mounts(mounts: &mut Vec<Mount>, added: &[Mount]) {
    for mount in added {
        let place = cleaned(mount.destination());
        mounts.retain(|known| cleaned(known.destination()) != place);
        mounts.push(mount.clone());
    }
    mounts.sort_by_key(|mount| cleaned(mount.destination()).components().count());
}

/// A path of the container without `.`, `..` and empty names.
fn cleaned(path: &Path) -> PathBuf {
    joined(Path::new("/"), path)
}

/// A hook that is there already would do its work twice.
#[allow(deprecated, reason = "CDI files may name prestart")]
fn add_hook(hooks: &mut Hooks, phase: &str, hook: &Hook) {
    let list = match phase {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        _ => hooks.poststop_mut(),
    };
    let list = list.get_or_insert_default();
    if !list.contains(hook) {
        list.push(hook.clone());
    }
}

fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let is_it = |known: &String| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
    match env.iter().position(is_it) {
        None => env.push(entry),
        Some(first) => {
            let mut at = 0;
            env.retain(|known| {
                let keep = at <= first || !is_it(known);
                at += 1;
                keep
            });
            if let Some(known) = env.get_mut(first) {
                *known = entry;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(minor: u32) -> DeviceNode {
        DeviceNode {
            destination: format!("/dev/nvidia{minor}").into(),
            host_path: None,
            kind: DeviceKind::Char,
            major: 195,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
            access: "rw".to_owned(),
            why: String::new(),
        }
    }

    fn spec(value: serde_json::Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_spec_without_linux_gets_devices_and_rules_and_nothing_else() {
        let mut spec = spec(json!({"ociVersion": "1.0.2"}));
        Plan { devices: vec![node(0)], ..Plan::default() }.merge_into(&mut spec);
        let linux = serde_json::to_value(spec.linux()).unwrap();
        let expected = json!({
            "devices": [{"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0,
                         "fileMode": 0o666, "uid": 0, "gid": 0}],
            "resources": {"devices":
                [{"allow": true, "type": "c", "major": 195, "minor": 0, "access": "rw"}]}
        });
        assert_eq!(linux, expected);
    }

    #[test]
    fn merging_twice_is_merging_once() {
        let mut spec = spec(json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 5, "gid": 5, "additionalGids": [44]},
                        "env": ["A=1", "N=x", "B=2", "N=y", "NN=z"]},
            "linux": {"devices": [{"path": "/dev/nvidia1", "type": "c", "major": 1, "minor": 9}],
                      "resources": {"devices": [
                        {"allow": true, "type": "c", "major": 195, "minor": 0, "access": "rw"},
                        {"allow": false, "access": "rwm"}]}}
        }));
        let plan = Plan {
            devices: vec![node(0), node(1)],
            env: vec![("N".to_owned(), "void".to_owned())],
            gids: vec![44, 109],
            ..Plan::default()
        };
        plan.merge_into(&mut spec);
        let once = spec.clone();
        plan.merge_into(&mut spec);
        assert_eq!(spec, once);
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.env().as_ref().unwrap(), &["A=1", "N=void", "B=2", "NN=z"]);
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[44, 109]);
        let linux = spec.linux().as_ref().unwrap();
        let majors: Vec<i64> =
            linux.devices().as_ref().unwrap().iter().map(LinuxDevice::major).collect();
        assert_eq!(majors, [195, 195]);
        // The rule before the denial does not count, so both are added after it.
        assert_eq!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap().len(), 4);
    }
}
