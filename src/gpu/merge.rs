//! What of a plan the spec can say: devices, device rules, environment and groups.
//!
//! They join the in-memory spec so that cgroups, `update` and `state` see one truth. The bundle's
//! file is never written.

use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Process, Spec,
};

use super::plan::{DeviceKind, DeviceNode, Plan};

impl Plan {
    /// Adds the plan's devices, rules, environment and groups to the spec. What the spec has
    /// already is not added a second time; a device of the same path but other numbers, and a
    /// variable of the same name, are replaced.
    pub fn merge_into(&self, spec: &mut Spec) {
        if !self.devices.is_empty() {
            let linux = spec.linux_mut().get_or_insert_with(empty_linux);
            for device in &self.devices {
                add_node(linux.devices_mut().get_or_insert_with(Vec::new), device);
            }
            let resources = linux.resources_mut().get_or_insert_with(LinuxResources::default);
            let rules = resources.devices_mut().get_or_insert_with(Vec::new);
            for device in &self.devices {
                add_rule(rules, device);
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
