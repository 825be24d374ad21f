//! What is remembered of a container's GPUs: which it was given and on what terms.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cgroup::devices::{Access, DeviceRule, DeviceRules, DeviceType};
use crate::gpu;
use crate::gpu::claim::{Claim, Machine, is_gpu_node, is_gpu_number, may_be_gpu};
use crate::gpu::exclusive::{ANNOTATION, Exclusive, Policy};
use crate::gpu::plan::{DeviceKind, DeviceNode, Grant, Plan};

/// The annotation in the answer of `state` that tells the GPUs.
pub const DEVICES_ANNOTATION: &str = "gpurun.gpu.devices";

/// The annotation that tells their UUIDs.
pub const UUIDS_ANNOTATION: &str = "gpurun.gpu.uuids";

/// The GPUs of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// Those that gpurun found on the machine and granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Nodes of GPUs that the container has otherwise: from CDI files or from its engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PathBuf>,
    /// Which of them nobody else may have.
    #[serde(default, skip_serializing_if = "Exclusive::is_none")]
    pub exclusive: Exclusive,
    /// Where it is entered among the holders (see [`super::holders`]), if it could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<PathBuf>,
}

/// What is decided about a container's GPUs before it exists.
#[derive(Debug)]
pub struct Wanted {
    /// What will be remembered.
    pub gpus: Gpus,
    /// The directory of the holders.
    pub holders: PathBuf,
    /// For a container that wants GPUs for itself alone: them and the machine they are on.
    pub alone: Option<(Machine, Claim)>,
}

/// Looks for GPUs in what a container gets. `None`: there are none, and only the spec was looked
/// at. The machine is looked at only for a container that wants GPUs for itself alone.
///
/// # Errors
/// An annotation or configuration that is wrong, or that cannot be met on this machine.
pub fn wanted(
    spec: &Spec,
    plan: Option<&Plan>,
    policy: Option<Policy>,
    rules: &DeviceRules,
) -> Result<Option<Wanted>> {
    let grants = plan.map(|plan| plan.grants.clone()).unwrap_or_default();
    let nodes = other_nodes(spec, plan, rules);
    if grants.is_empty() && nodes.is_empty() && !may_cover_gpus(rules, plan) {
        return Ok(None);
    }
    settle(spec, Gpus { grants, nodes, ..Gpus::default() }, policy, rules)
}

/// The same for a container that has these, on the terms of now.
///
/// # Errors
/// As of [`wanted`].
pub fn settle(
    spec: &Spec,
    mut gpus: Gpus,
    policy: Option<Policy>,
    rules: &DeviceRules,
) -> Result<Option<Wanted>> {
    let policy = policy.map_or_else(gpu::load_policy, Ok)?;
    let asked = Exclusive::read(spec)?;
    let exclusive = asked.clone().or(policy.exclusive);
    let mut alone = None;
    if !exclusive.is_none() {
        let machine = gpu::read_machine_for(&exclusive)?;
        let claim = machine.claim(&gpus.grants, may_open(rules), &exclusive);
        if claim.units.is_empty() && gpus.grants.is_empty() && gpus.nodes.is_empty() {
            return Ok(None);
        }
        check(&asked, &machine, &claim)?;
        gpus.exclusive = settled(&machine, &claim);
        alone = (!gpus.exclusive.is_none()).then_some((machine, claim));
    }
    Ok(Some(Wanted { gpus, holders: policy.holders, alone }))
}

/// The nodes of GPUs in the spec that did not come from a grant. A container that may use every
/// device of the machine has no GPU in particular.
fn other_nodes(spec: &Spec, plan: Option<&Plan>, rules: &DeviceRules) -> Vec<PathBuf> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
    if rules.default_allow() {
        return Vec::new();
    }
    let planned = |path: &PathBuf| planned(plan).iter().find(|node| node.destination == *path);
    let has_grants = plan.is_some_and(|plan| !plan.grants.is_empty());
    let is_gpu = |node: &LinuxDevice| {
        let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
        match planned(node.path()) {
            Some(node) => !has_grants && is_gpu(node),
            None => {
                is_gpu_node(node.path())
                    || is_gpu_number(number(node.major()), number(node.minor()))
            }
        }
    };
    let is_character = |kind| matches!(kind, LinuxDeviceType::C | LinuxDeviceType::U);
    let nodes = devices.unwrap_or_default().iter();
    let nodes = nodes.filter(|node| is_character(node.typ()) && is_gpu(node));
    nodes.map(|node| node.path().clone()).collect()
}

/// Whether the rules let a container open GPUs, as far as numbers tell without a look at the
/// machine: what it has from the image, from a volume or under another name it has as well.
pub fn may_cover_gpus(rules: &DeviceRules, plan: Option<&Plan>) -> bool {
    let is_other = |rule: &DeviceRule| {
        let numbers = (rule.major, rule.minor);
        let is_it = |node: &&DeviceNode| numbers == (Some(node.major), Some(node.minor));
        planned(plan).iter().find(is_it).is_some_and(|node| !is_gpu(node))
    };
    gives_devices(rules).any(|rule| may_be_gpu(rule.major, rule.minor) && !is_other(rule))
}

/// The rules of a container that may not use every device, by which it can read or write some.
fn gives_devices(rules: &DeviceRules) -> impl Iterator<Item = &DeviceRule> {
    let opens = Access::READ.union(Access::WRITE);
    let rules = rules.exceptions().iter().filter(|_| !rules.default_allow());
    rules.filter(move |rule| {
        rule.kind == DeviceType::Char && !rule.access.intersection(opens).is_empty()
    })
}

fn planned(plan: Option<&Plan>) -> &[DeviceNode] {
    plan.map(|plan| plan.devices.as_slice()).unwrap_or_default()
}

/// Whether a plan's node is one GPU's own: by its path here or there, or by its number.
fn is_gpu(node: &DeviceNode) -> bool {
    node.kind == DeviceKind::Char
        && (is_gpu_node(&node.destination)
            || node.host_path.as_deref().is_some_and(is_gpu_node)
            || is_gpu_number(node.major, node.minor))
}

/// Whether these rules let a container read or write a device, other than by allowing everything.
pub fn may_open(rules: &DeviceRules) -> impl Fn(u32, u32) -> bool {
    move |major, minor| {
        let may = |access| rules.verdict(DeviceType::Char, major, minor, access);
        !rules.default_allow() && (may(Access::READ) || may(Access::WRITE))
    }
}

/// What a container asks for itself it must have. (The configuration is for every container.)
fn check(asked: &Exclusive, machine: &Machine, claim: &Claim) -> Result<()> {
    let covered = |name: Option<&str>| {
        claim.units.iter().any(|(unit, _)| {
            let Some(device) = machine.devices.get(unit.device) else { return false };
            name.is_none_or(|name| gpu::exclusive::is_named(name, device, machine.part(*unit)))
        })
    };
    match asked {
        Exclusive::None => Ok(()),
        Exclusive::All if covered(None) => Ok(()),
        Exclusive::All => bail!(
            "annotation {ANNOTATION}: the container's GPUs are none that `gpurun gpu list` shows, \
             and of others nobody knows who has them; remove the annotation"
        ),
        Exclusive::These(names) => match names.iter().find(|name| !covered(Some(name))) {
            None => Ok(()),
            Some(name) => {
                let own: Vec<_> = claim.units.iter().map(|(unit, _)| machine.name(*unit)).collect();
                bail!(
                    "annotation {ANNOTATION} names {name:?}, which the container does not have; \
                     it has {}",
                    if own.is_empty() {
                        "none that gpurun knows".to_owned()
                    } else {
                        own.join(", ")
                    }
                )
            }
        },
    }
}

/// The same wish in names that stay true when GPUs come and go.
fn settled(machine: &Machine, claim: &Claim) -> Exclusive {
    let alone: Vec<_> = claim.units.iter().filter(|(_, alone)| *alone).collect();
    if alone.len() == claim.units.len() && !alone.is_empty() {
        return Exclusive::All;
    }
    let names = alone.iter().filter_map(|(unit, _)| {
        let device = machine.devices.get(unit.device)?;
        Some(match machine.part(*unit) {
            Some(part) => format!("{}={}", device.kind, part.name),
            None => {
                let id = device.uuid.as_ref().or(device.bus_id.as_ref());
                id.cloned().unwrap_or_else(|| format!("{}={}", device.kind, device.name))
            }
        })
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { Exclusive::None } else { Exclusive::These(names) }
}

impl Gpus {
    /// All of them on one line: grants by kind and index (`nvidia.com/gpu=0,1`), then nodes.
    #[must_use]
    pub fn names(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut kind = None;
        for grant in &self.grants {
            let name = match &grant.part {
                Some(part) => format!("{} {part}", grant.index),
                None => grant.index.to_string(),
            };
            if kind == Some(&grant.kind) {
                words.push(name);
            } else {
                words.push(format!("{}={name}", grant.kind));
                kind = Some(&grant.kind);
            }
        }
        words.extend(self.nodes.iter().map(|path| path.display().to_string()));
        words.join(",")
    }

    /// Adds what `state` tells of them to the container's annotations.
    fn add_to(&self, annotations: &mut HashMap<String, String>) {
        let names = self.names();
        if !names.is_empty() {
            annotations.insert(DEVICES_ANNOTATION.to_owned(), names);
        }
        let uuids = self.grants.iter().map(|grant| grant.uuid.as_str());
        let mut known: Vec<&str> = Vec::new();
        for uuid in uuids.filter(|uuid| !uuid.is_empty()) {
            if !known.contains(&uuid) {
                known.push(uuid);
            }
        }
        if !known.is_empty() {
            annotations.insert(UUIDS_ANNOTATION.to_owned(), known.join(","));
        }
        let exclusive = match &self.exclusive {
            Exclusive::None => return,
            Exclusive::All => "true".to_owned(),
            Exclusive::These(names) => names.join(","),
        };
        annotations.insert(ANNOTATION.to_owned(), exclusive);
    }

    /// One object per grant, with the names of its fields, and one per node.
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        let grants = self.grants.iter().map(|grant| json!(grant));
        grants.chain(self.nodes.iter().map(|node| json!({ "node": node }))).collect()
    }
}

/// Tells a container's GPUs in its annotations for `state`, and nothing else by the same keys,
/// whatever its spec has there.
pub fn annotate(gpus: Option<&Gpus>, annotations: &mut HashMap<String, String>) {
    for key in [DEVICES_ANNOTATION, UUIDS_ANNOTATION, ANNOTATION] {
        annotations.remove(key);
    }
    if let Some(gpus) = gpus {
        gpus.add_to(annotations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(kind: &str, index: u32, part: Option<&str>) -> Grant {
        Grant {
            kind: kind.to_owned(),
            index,
            uuid: format!("GPU-{index}"),
            bus_id: String::new(),
            model: String::new(),
            part: part.map(str::to_owned),
            asked_as: "all".to_owned(),
        }
    }

    #[test]
    fn gpus_are_told_by_kind_index_and_part() {
        let gpus = Gpus {
            grants: vec![
                grant("nvidia.com/gpu", 0, None),
                grant("nvidia.com/gpu", 2, Some("MIG device 0 (GI 2, CI 0)")),
                grant("nvidia.com/gpu", 2, Some("MIG device 1 (GI 2, CI 1)")),
                grant("amd.com/gpu", 1, None),
            ],
            nodes: vec!["/dev/dri/renderD128".into()],
            exclusive: Exclusive::All,
            entry: None,
        };
        assert_eq!(
            gpus.names(),
            "nvidia.com/gpu=0,2 MIG device 0 (GI 2, CI 0),2 MIG device 1 (GI 2, CI 1),\
             amd.com/gpu=1,/dev/dri/renderD128"
        );
        let mut annotations = HashMap::new();
        annotate(Some(&gpus), &mut annotations);
        assert_eq!(annotations[DEVICES_ANNOTATION], gpus.names());
        assert_eq!(annotations[UUIDS_ANNOTATION], "GPU-0,GPU-2,GPU-1");
        assert_eq!(annotations[ANNOTATION], "true");
        assert_eq!(gpus.json()[4], json!({"node": "/dev/dri/renderD128"}));
    }

    #[test]
    fn what_a_spec_says_of_gpus_in_the_same_words_is_not_told() {
        let forged = || {
            [DEVICES_ANNOTATION, UUIDS_ANNOTATION, ANNOTATION, "other"]
                .map(|key| (key.to_owned(), "forged".to_owned()))
                .into()
        };
        let mut annotations = forged();
        annotate(None, &mut annotations);
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["other"]);
        let mut annotations = forged();
        let gpus = Gpus { nodes: vec!["/dev/nvidia0".into()], ..Gpus::default() };
        annotate(Some(&gpus), &mut annotations);
        assert_eq!(annotations[DEVICES_ANNOTATION], "/dev/nvidia0");
        assert_eq!(annotations.len(), 2);
    }

    #[test]
    fn nodes_of_an_engine_count_and_those_of_a_privileged_container_do_not() {
        let spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.0.2",
            "linux": {"devices": [
                {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0},
                {"path": "/dev/nvidiactl", "type": "c", "major": 195, "minor": 255},
                {"path": "/dev/other", "type": "c", "major": 195, "minor": 1},
                {"path": "/dev/dri/disk", "type": "b", "major": 8, "minor": 0},
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
            ]}
        }))
        .expect("spec");
        let nodes = other_nodes(&spec, None, &DeviceRules::deny_all());
        assert_eq!(nodes, ["/dev/nvidia0", "/dev/other"].map(PathBuf::from));
        assert!(other_nodes(&spec, None, &DeviceRules::allow_all()).is_empty());
        assert!(!may_open(&DeviceRules::allow_all())(195, 0));
    }

    #[test]
    fn rules_tell_without_a_look_at_the_machine_whether_they_may_cover_gpus() {
        let rules = |rules: Value| {
            let rules: Vec<_> = serde_json::from_value(rules).expect("rules");
            DeviceRules::for_container(&rules, &[]).expect("rules")
        };
        let rule = |major: Value, minor: Value, access: &str| {
            rules(json!([{"allow": true, "type": "c", "major": major, "minor": minor,
                          "access": access}]))
        };
        let any = Value::Null;
        for (rules, expected) in [
            (rules(json!([])), false),
            (rule(195.into(), 0.into(), "rw"), true),
            (rule(195.into(), any.clone(), "r"), true),
            (rule(any.clone(), any.clone(), "rwm"), true),
            (rule(195.into(), 0.into(), "m"), false),
            (rule(195.into(), 255.into(), "rwm"), false),
            (rule(10.into(), 229.into(), "rwm"), false),
            (rules(json!([{"allow": true, "access": "rwm"}])), false),
        ] {
            assert_eq!(may_cover_gpus(&rules, None), expected, "{rules:?}");
        }
        // A plan says what its nodes are.
        let node = |name: &str| DeviceNode {
            destination: PathBuf::from("/dev").join(name),
            host_path: None,
            kind: DeviceKind::Char,
            major: 511,
            minor: 0,
            mode: 0o666,
            uid: 0,
            gid: 0,
            access: "rwm".to_owned(),
            why: String::new(),
        };
        for (name, expected) in [("nvidia-uvm", false), ("davinci0", true)] {
            let plan = Plan { devices: vec![node(name)], ..Plan::default() };
            let rules = rule(511.into(), 0.into(), "rwm");
            assert_eq!(may_cover_gpus(&rules, Some(&plan)), expected, "{name}");
        }
    }

    #[test]
    fn a_state_without_terms_is_one_of_shared_gpus() {
        let gpus: Gpus = serde_json::from_value(json!({"nodes": ["/dev/nvidia0"]})).expect("gpus");
        assert_eq!(gpus.exclusive, Exclusive::None);
        let exclusive = Gpus { exclusive: Exclusive::These(vec!["0".to_owned()]), ..gpus };
        let text = serde_json::to_string(&exclusive).expect("json");
        assert_eq!(serde_json::from_str::<Gpus>(&text).expect("gpus"), exclusive);
    }
}
