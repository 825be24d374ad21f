//! Device nodes, as every vendor describes them.
//!
//! The numbers come from sysfs (`dev`), not from the node on the host, which may be missing or
//! stale. A host node lends its permission bits and group, and is what gets bound where mknod is
//! not allowed.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::plan::{DeviceKind, DeviceNode, Plan};
use crate::host::config::Section;
use crate::host::{ConfigError, Host, HostError};

/// The mode of a node that the host does not have.
const MODE: u32 = 0o666;

/// Describes `/dev/<name>` with the numbers in the file `dev` of this directory of sysfs; without
/// that file, with those of the host's node. `None`: there is neither.
///
/// # Errors
/// What cannot be read.
pub fn of_sysfs(
    host: &Host,
    directory: &str,
    name: &str,
    why: String,
) -> Result<Option<DeviceNode>, HostError> {
    let numbers = host.sys.read_text(format!("{directory}/dev"), 64)?;
    let numbers = numbers.as_deref().and_then(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    described(host, name, numbers, why)
}

/// Describes `/dev/<name>` as the host has it. `None`: the host has no such character device.
///
/// # Errors
/// What cannot be read.
pub fn of_host(host: &Host, name: &str, why: String) -> Result<Option<DeviceNode>, HostError> {
    described(host, name, None, why)
}

fn described(
    host: &Host,
    name: &str,
    numbers: Option<(u32, u32)>,
    why: String,
) -> Result<Option<DeviceNode>, HostError> {
    let status = host.dev.link_status(name)?.filter(|status| {
        status.kind == FileType::CharacterDevice
            && numbers.is_none_or(|numbers| numbers == (status.major, status.minor))
    });
    let Some((major, minor)) = numbers.or(status.map(|status| (status.major, status.minor))) else {
        return Ok(None);
    };
    Ok(Some(DeviceNode {
        destination: PathBuf::from("/dev").join(name),
        host_path: status.map(|_| host.dev.at(name)),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: status.map_or(MODE, |status| status.mode & 0o777),
        uid: 0,
        gid: status.map_or(0, |status| status.gid),
        access: "rwm".to_owned(),
        why,
    }))
}

/// Whether the container gets `/dev/<name>` already.
#[must_use]
pub fn has(plan: &Plan, name: &str) -> bool {
    let destination = Path::new("/dev").join(name);
    plan.devices.iter().any(|known| known.destination == destination)
}

/// Adds the node, unless the container gets it already.
pub fn add(node: DeviceNode, plan: &mut Plan) {
    if plan.devices.iter().all(|known| known.destination != node.destination) {
        plan.devices.push(node);
    }
}

/// The group that a user must be in to open the node, if not everyone can.
#[must_use]
pub fn group_needed(node: &DeviceNode) -> Option<u32> {
    (node.gid != 0 && node.mode & 0o006 != 0o006).then_some(node.gid)
}

/// Whether a vendor's table of the configuration lets the container's user join the nodes' groups.
///
/// # Errors
/// A wrong value.
pub fn additional_gids(section: &mut Section<'_>) -> Result<bool, ConfigError> {
    Ok(!section.boolean("no-additional-gids-for-device-nodes")?.unwrap_or(false))
}

/// Lets the container's user join the groups of the plan's devices from the one at `first` on.
pub fn join_groups(first: usize, plan: &mut Plan) {
    let gids: Vec<u32> = plan.devices.iter().skip(first).filter_map(group_needed).collect();
    for gid in gids {
        if !plan.gids.contains(&gid) {
            plan.gids.push(gid);
        }
    }
}

/// The number in a name such as `card0` or `accel12`: nothing but digits after this prefix.
#[must_use]
pub fn number(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    /// The rule of NVIDIA's toolkit (`internal/edits/device.go`).
    #[test]
    fn a_group_is_needed_where_not_everyone_may_read_and_write() {
        for (mode, gid, expected) in [
            (0o660, 44, Some(44)),
            (0o664, 44, Some(44)),
            (0o662, 44, Some(44)),
            (0o666, 44, None),
            (0o600, 44, Some(44)),
            (0o660, 0, None),
        ] {
            let node = DeviceNode {
                destination: "/dev/dri/card0".into(),
                host_path: None,
                kind: DeviceKind::Char,
                major: 226,
                minor: 0,
                mode,
                uid: 0,
                gid,
                access: "rwm".to_owned(),
                why: String::new(),
            };
            let mut plan = Plan { devices: vec![node], ..Plan::default() };
            assert_eq!(group_needed(&plan.devices[0]), expected, "{mode:o} {gid}");
            join_groups(0, &mut plan);
            join_groups(0, &mut plan);
            assert_eq!(plan.gids, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn sysfs_knows_the_numbers_and_the_node_its_mode_and_group() {
        let files = Scratch::new();
        for directory in ["proc", "sys", "dev"] {
            files.directory(directory);
        }
        if !files.node("dev/accel/accel0", 261, 0, 0o660) {
            eprintln!("skipped: mknod is not allowed here");
            return;
        }
        files.node("dev/accel/accel1", 1, 3, 0o600);
        for n in 0..3 {
            files.write(&format!("sys/class/accel/accel{n}/dev"), format!("261:{n}\n"));
        }
        let at = |name: &str| files.path().join(name);
        let host = Host::at(at("proc"), at("sys"), at("dev")).unwrap();
        let node = |n: u32| {
            let name = format!("accel/accel{n}");
            of_sysfs(&host, &format!("class/accel/accel{n}"), &name, String::new()).unwrap()
        };
        let first = node(0).unwrap();
        assert_eq!((first.major, first.minor, first.mode), (261, 0, 0o660));
        assert_eq!(first.host_path, Some(at("dev/accel/accel0")));
        // A stale node and none at all: sysfs is right.
        for n in [1, 2] {
            let node = node(n).unwrap();
            assert_eq!((node.major, node.minor, node.mode, node.host_path), (261, n, MODE, None));
        }
        assert_eq!(node(3), None);
        assert_eq!(of_host(&host, "accel/accel1", String::new()).unwrap().unwrap().minor, 3);
        assert_eq!(of_host(&host, "accel", String::new()).unwrap(), None);
    }

    #[test]
    fn a_number_is_digits_only() {
        for (name, expected) in [
            ("card0", Some(0)),
            ("card12", Some(12)),
            ("card", None),
            ("card+1", None),
            ("card0-DP-1", None),
            ("render0", None),
            ("card99999999999", None),
        ] {
            assert_eq!(number(name, "card"), expected, "{name}");
        }
    }
}
