//! The versions of the CDI file format, and what each brought.

use super::spec::{CdiSpec, ContainerEdits};

/// A version of the format, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u8, u8, u8);

/// The versions that exist.
const KNOWN: [Version; 10] = [
    Version(0, 1, 0),
    Version(0, 2, 0),
    V0_3,
    V0_4,
    V0_5,
    V0_6,
    V0_7,
    Version(0, 8, 0),
    Version(1, 0, 0),
    V1_1,
];

/// What every file needs at least.
const V0_3: Version = Version(0, 3, 0);
/// Mounts with a type.
const V0_4: Version = Version(0, 4, 0);
/// Device names that begin with a digit; another path on the host.
const V0_5: Version = Version(0, 5, 0);
/// Annotations; a dot in the class.
const V0_6: Version = Version(0, 6, 0);
/// Intel RDT and additional groups.
const V0_7: Version = Version(0, 7, 0);
/// Network devices, RDT schemata and monitoring.
const V1_1: Version = Version(1, 1, 0);

impl Version {
    /// A known version, with or without a leading `v`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        KNOWN.into_iter().find(|known| known.to_string() == text)
    }

    /// The smallest version that has everything the file uses.
    #[must_use]
    pub fn required(spec: &CdiSpec) -> Self {
        let class = spec.kind.split_once('/').map_or("", |(_, class)| class);
        let of_names = spec.devices.iter().map(|device| {
            let digit = device.name.starts_with(|first: char| first.is_ascii_digit());
            let annotated = !device.annotations.is_empty();
            if annotated { V0_6 } else { at_least(V0_5, digit) }
        });
        let of_edits = spec.edits().map(required_by_edits);
        let top = at_least(V0_6, !spec.annotations.is_empty() || class.contains('.'));
        of_names.chain(of_edits).fold(top, Self::max)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// `version` where the feature is used.
fn at_least(version: Version, used: bool) -> Version {
    if used { version } else { V0_3 }
}

fn required_by_edits(edits: &ContainerEdits) -> Version {
    let rdt = edits.intel_rdt.as_ref();
    let newest = !edits.net_devices.is_empty()
        || rdt.is_some_and(|rdt| !rdt.schemata.is_empty() || rdt.enable_monitoring);
    let elsewhere = edits.device_nodes.iter().any(|node| !node.host_path.is_empty());
    let typed = edits.mounts.iter().any(|mount| !mount.r#type.is_empty());
    [
        at_least(V1_1, newest),
        at_least(V0_7, rdt.is_some() || !edits.additional_gids.is_empty()),
        at_least(V0_5, elsewhere),
        at_least(V0_4, typed),
    ]
    .into_iter()
    .fold(V0_3, Version::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_versions_are_read_and_others_are_not() {
        assert_eq!(Version::parse("0.5.0"), Some(V0_5));
        assert_eq!(Version::parse("v1.1.0"), Some(V1_1));
        for text in ["", "v", "0.5", "0.9.0", "1.2.0", "0.05.0", "vv0.5.0", " 0.5.0"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version(0, 8, 0) < Version(1, 0, 0));
    }

    #[test]
    fn each_feature_needs_the_version_that_brought_it() {
        let spec = |kind: &str, device: serde_json::Value| -> CdiSpec {
            serde_json::from_value(
                json!({"cdiVersion": "0.3.0", "kind": kind, "devices": [device]}),
            )
            .unwrap()
        };
        let with =
            |edits: serde_json::Value| spec("v/c", json!({"name": "a", "containerEdits": edits}));
        for (spec, wanted) in [
            (with(json!({"env": ["A=b"]})), "0.3.0"),
            (
                with(
                    json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}),
                ),
                "0.4.0",
            ),
            (spec("v/c", json!({"name": "0", "containerEdits": {}})), "0.5.0"),
            (with(json!({"deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}]})), "0.5.0"),
            (spec("v/c.d", json!({"name": "a", "containerEdits": {}})), "0.6.0"),
            (
                spec("v/c", json!({"name": "a", "annotations": {"k": "v"}, "containerEdits": {}})),
                "0.6.0",
            ),
            (with(json!({"additionalGids": [5]})), "0.7.0"),
            (with(json!({"intelRdt": {"closID": "x"}})), "0.7.0"),
            (with(json!({"intelRdt": {"schemata": ["L3:0=f"]}})), "1.1.0"),
            (with(json!({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]})), "1.1.0"),
        ] {
            assert_eq!(Version::required(&spec).to_string(), wanted, "{spec:?}");
        }
    }
}
