//! What of CDI files a container has already.
//!
//! An engine that knows CDI applies the files and may leave the annotation with the names where it
//! is. To apply them once more would undo what was changed after the engine did.

use std::path::PathBuf;

use super::registry::Resolved;
use super::spec::ContainerEdits;
use crate::gpu::request::Asked;

/// What of a spec can be compared with edits.
#[derive(Debug, Default)]
pub(super) struct Given {
    env: Vec<String>,
    /// With their numbers.
    nodes: Vec<(PathBuf, i64, i64)>,
    /// Source and destination.
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl Given {
    /// What this spec has.
    pub fn of(asked: &Asked<'_>) -> Self {
        Self {
            env: asked.environment().map(|(name, value)| format!("{name}={value}")).collect(),
            nodes: asked
                .devices()
                .map(|(path, major, minor)| (path.into(), major, minor))
                .collect(),
            mounts: asked.mounts().map(|(from, to)| (from.into(), to.into())).collect(),
        }
    }

    /// Whether all of these edits are there. Edits in which nothing can be compared are not.
    pub fn has(&self, edits: &[Resolved<'_>]) -> bool {
        let is_comparable = |edits: &ContainerEdits| {
            !(edits.env.is_empty() && edits.device_nodes.is_empty() && edits.mounts.is_empty())
        };
        edits.iter().any(|one| is_comparable(one.edits))
            && edits.iter().all(|one| self.has_each(one.edits))
    }

    fn has_each(&self, edits: &ContainerEdits) -> bool {
        edits.env.iter().all(|entry| self.env.contains(entry))
            && edits.device_nodes.iter().all(|node| {
                let is_it = |(path, major, minor): &(PathBuf, i64, i64)| {
                    path.as_os_str() == node.path.as_str()
                        && (node.major == 0 || (*major, *minor) == (node.major, node.minor))
                };
                // An engine without root's rights binds the nodes.
                let is_bound = || self.mounts.iter().any(|(_, to)| to.as_os_str() == &*node.path);
                self.nodes.iter().any(is_it) || is_bound()
            })
            && edits.mounts.iter().all(|mount| {
                self.mounts.iter().any(|(from, to)| {
                    from.as_os_str() == &*mount.host_path
                        && to.as_os_str() == &*mount.container_path
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gpu::cdi::CdiSpec;

    fn has(spec: serde_json::Value) -> bool {
        let file = "{cdiVersion: 0.5.0, kind: a.b/c, devices: [{name: x, containerEdits: \
                    {deviceNodes: [{path: /dev/x, major: 7, minor: 1}, {path: /dev/y}], \
                    mounts: [{hostPath: /lib/x, containerPath: /usr/lib/x}]}}], \
                    containerEdits: {env: [X=1]}}";
        let file = CdiSpec::parse(file).unwrap();
        let path = Path::new("/f");
        let shared = Resolved { file: path, device: None, edits: &file.container_edits };
        let edits = &file.devices[0].container_edits;
        let own = Resolved { file: path, device: Some("x"), edits };
        let spec = serde_json::from_value(spec).unwrap();
        Given::of(&Asked::of(&spec)).has(&[shared, own])
    }

    #[test]
    fn a_device_is_there_when_all_that_it_brings_is() {
        let whole = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["A=b", "X=1"]},
            "mounts": [{"source": "/lib/x", "destination": "/usr/lib/x"}],
            "linux": {"devices": [
                {"path": "/dev/x", "type": "c", "major": 7, "minor": 1},
                {"path": "/dev/y", "type": "c", "major": 8, "minor": 2}
            ]}
        });
        assert!(has(whole.clone()));
        for (place, value) in [
            ("/process/env/1", "X=2".into()),
            ("/mounts/0/source", "/other".into()),
            ("/mounts/0/destination", "/other".into()),
            ("/linux/devices/0/minor", 2.into()),
            ("/linux/devices/1/path", "/dev/z".into()),
        ] {
            let mut other = whole.clone();
            *other.pointer_mut(place).unwrap() = value;
            assert!(!has(other), "{place}");
        }
        let mut bound = whole;
        bound["linux"]["devices"][1]["path"] = "/dev/z".into();
        let node = serde_json::json!({"source": "/dev/y", "destination": "/dev/y"});
        bound["mounts"].as_array_mut().unwrap().push(node);
        assert!(has(bound));
    }

    #[test]
    fn what_brings_nothing_to_compare_is_not_there() {
        let edits = ContainerEdits::default();
        let one = Resolved { file: Path::new("/f"), device: Some("x"), edits: &edits };
        assert!(!Given::default().has(&[one]) && !Given::default().has(&[]));
    }
}
