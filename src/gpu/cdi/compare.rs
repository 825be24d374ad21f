//! What a container gets by one CDI file and not by another.
//!
//! Files that say the same look different: edits stand with the device or with all of them, links
//! are spread over hooks, hooks are run by other programs. So what a device brings is compared as
//! a set of plain facts, whoever brings it.

use std::collections::BTreeSet;

use super::spec::{CdiHook, CdiSpec, ContainerEdits};

/// Options of hooks that say how and not what.
const INCIDENTAL: [&str; 2] = ["config", "container-spec"];

/// One fact that only one of the files has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The device, or a `*` for every device that both have.
    pub device: String,
    /// Whether it is the first file that has it.
    pub is_in_first: bool,
    /// The fact, such as `node /dev/nvidia0`.
    pub fact: String,
}

impl std::fmt::Display for Difference {
    /// As diff(1) writes it: `-` stands in the first, `+` in the second file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.is_in_first { '-' } else { '+' };
        write!(f, "{sign} {}: {}", self.device, self.fact)
    }
}

/// The differences, sorted. What is so for every device of both files is one difference.
#[must_use]
pub fn compare(first: &CdiSpec, second: &CdiSpec) -> Vec<Difference> {
    let mut found = BTreeSet::new();
    if first.kind != second.kind {
        for (kind, is_in_first) in [(&first.kind, true), (&second.kind, false)] {
            found.insert(difference("*", is_in_first, format!("kind {kind}")));
        }
    }
    let mut common = Vec::new();
    for (one, other, is_in_first) in [(first, second, true), (second, first, false)] {
        for device in &one.devices {
            match other.device(&device.name) {
                Some(_) if is_in_first => common.push(device.name.as_str()),
                Some(_) => {}
                None => {
                    found.insert(difference(&device.name, is_in_first, "the device".to_owned()));
                }
            }
        }
    }
    let facts = |spec: &CdiSpec, name: &str| {
        let device = spec.device(name).map(|device| &device.container_edits);
        let mut facts = BTreeSet::new();
        device.into_iter().chain([&spec.container_edits]).for_each(|edits| add(edits, &mut facts));
        facts
    };
    let mut differences = Vec::new();
    for name in &common {
        let (one, other) = (facts(first, name), facts(second, name));
        differences.extend(one.difference(&other).map(|fact| difference(name, true, fact.clone())));
        differences
            .extend(other.difference(&one).map(|fact| difference(name, false, fact.clone())));
    }
    for one in &differences {
        let same =
            |other: &&Difference| (other.is_in_first, &other.fact) == (one.is_in_first, &one.fact);
        let is_everywhere = differences.iter().filter(same).count() == common.len();
        let device = if is_everywhere { "*" } else { &one.device };
        found.insert(difference(device, one.is_in_first, one.fact.clone()));
    }
    found.into_iter().collect()
}

fn difference(device: &str, is_in_first: bool, fact: String) -> Difference {
    Difference { device: device.to_owned(), is_in_first, fact }
}

fn add(edits: &ContainerEdits, facts: &mut BTreeSet<String>) {
    facts.extend(edits.env.iter().map(|variable| format!("env {variable}")));
    facts.extend(edits.device_nodes.iter().map(|node| format!("node {}", node.path)));
    // Not from where: one tool follows links that another does not.
    facts.extend(edits.mounts.iter().map(|mount| format!("mount {}", mount.container_path)));
    facts.extend(edits.additional_gids.iter().map(|gid| format!("group {gid}")));
    facts.extend(edits.net_devices.iter().map(|device| format!("interface {}", device.name)));
    for hook in &edits.hooks {
        hook_facts(hook, facts);
    }
}

/// What a hook does, one fact for each thing that it does.
fn hook_facts(hook: &CdiHook, facts: &mut BTreeSet<String>) {
    let mut words = hook.args.iter().skip(1).map(String::as_str);
    let command = words.find(|word| *word != "hook" && !word.starts_with('-'));
    let Some(command) = command else {
        facts.insert(format!("hook {}", hook.path));
        return;
    };
    let mut others = Vec::new();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches('-');
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value),
            None => (name, words.next().unwrap_or_default()),
        };
        match (command, name) {
            _ if INCIDENTAL.contains(&name) => {}
            ("create-symlinks", "link") => {
                let (target, link) = value.split_once("::").unwrap_or((value, ""));
                facts.insert(format!("link {link} to {target}"));
            }
            ("update-ldcache", "folder") => {
                facts.insert(format!("loader {value}"));
            }
            _ => others.push(format!(" --{name}={value}")),
        }
    }
    others.sort();
    let is_told = matches!(command, "create-symlinks" | "update-ldcache");
    if !is_told || !others.is_empty() {
        facts.insert(format!("hook {command}{}", others.concat()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "\
cdiVersion: 0.5.0
kind: v/c
devices:
- name: \"0\"
  containerEdits:
    deviceNodes: [{path: /dev/a0}, {path: /dev/shared}]
- name: \"1\"
  containerEdits:
    deviceNodes: [{path: /dev/a1}, {path: /dev/shared}]
- name: old
  containerEdits: {env: [A=1]}
containerEdits:
  mounts: [{hostPath: /l/x.so, containerPath: /l/x.so}]
  hooks:
  - {hookName: createContainer, path: /usr/bin/nvidia-cdi-hook,
     args: [nvidia-cdi-hook, create-symlinks, --link, x.so::/l/y.so]}
  - {hookName: createContainer, path: /usr/bin/nvidia-cdi-hook,
     args: [nvidia-cdi-hook, update-ldcache, --folder, /l]}
  - {hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [nvidia-cdi-hook, chmod, --mode, \"755\"]}
";

    const SECOND: &str = "\
cdiVersion: 0.5.0
kind: v/c
devices:
- name: \"0\"
  containerEdits:
    deviceNodes: [{path: /dev/a0, hostPath: /host/dev/a0, major: 1, type: c}]
    hooks:
    - {hookName: createContainer, path: /opt/gpurun,
       args: [gpurun, hook, create-symlinks, --link=x.so::/l/y.so, --config=/c]}
- name: \"1\"
  containerEdits:
    deviceNodes: [{path: /dev/a2}]
    hooks:
    - {hookName: createContainer, path: /opt/gpurun,
       args: [gpurun, hook, create-symlinks, --link, x.so::/l/y.so]}
containerEdits:
  deviceNodes: [{path: /dev/shared}]
  mounts: [{hostPath: /l/x.so, containerPath: /l/x.so, options: [ro]}]
  hooks:
  - {hookName: createContainer, path: /opt/gpurun, args: [gpurun, hook, update-ldcache, --folder, /m]}
";

    #[test]
    fn facts_are_compared_wherever_they_stand() {
        let spec = |text| CdiSpec::parse(text).unwrap();
        let found: Vec<String> =
            compare(&spec(FIRST), &spec(SECOND)).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "+ *: loader /m",
                "- *: hook chmod --mode=755",
                "- *: loader /l",
                "+ 1: node /dev/a2",
                "- 1: node /dev/a1",
                "- old: the device",
            ]
        );
        assert!(compare(&spec(FIRST), &spec(FIRST)).is_empty());
    }
}
