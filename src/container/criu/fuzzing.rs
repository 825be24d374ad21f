//! What criu says, and which mounts it has to be told of.

use rust_criu::rust_criu_protobuf::rpc::Criu_version;

use super::external::{self, Known};
use super::{client, log, restore};
use crate::fuzzing::text;
use crate::mountinfo;

/// A version that cannot be counted together must not be a high one.
pub fn version(version: &Criu_version) {
    let (major, minor, sub) = (version.major_number(), version.minor_number(), version.sublevel());
    let number = client::number(major, minor, sub, version.has_gitid());
    if [major, minor, sub].iter().all(|part| (0..100).contains(part)) && !version.has_gitid() {
        let parts = [major, minor, sub].map(|part| part.cast_unsigned());
        assert_eq!(number, parts[0] * 10_000 + parts[1] * 100 + parts[2]);
    }
}

/// criu's log, `/proc/PID/cgroup`, and two lists of mounts.
pub fn texts(data: &[u8]) {
    let text = text(data);
    if let Some(reason) = log::reason(text) {
        assert!(!reason.contains('\n') && text.contains(reason));
    }
    let quoted = log::errors(text);
    assert!(quoted.iter().all(|line| !line.contains('\n')));
    assert!(quoted.len() <= 2 * text.lines().count());
    for root in restore::cgroup_roots(text) {
        assert!(text.contains(root.path()) && text.contains(root.ctrl()));
    }
    let (container, host) = text.split_once("\n\n").unwrap_or((text, ""));
    let container = mountinfo::parse(container.as_bytes());
    let found = external::of(&container, &mountinfo::parse(host.as_bytes()), &Known::default());
    for (point, _) in &found {
        assert!(container.iter().any(|mount| mount.point == *point));
        assert_eq!(found.iter().filter(|(other, _)| other == point).count(), 1);
    }
}
