//! Which of a container's mounts come from outside it.
//!
//! CRIU can make a mount again whose whole filesystem belongs to the container (its proc, its
//! tmpfs, its devpts) and binds of parts of these. Everything else was mounted from outside: bind
//! mounts of the spec, the driver's files, what was generated for them, cgroup v1 directories.
//! CRIU has to be told so when it dumps, and where to find it when it restores. The container's
//! own list of mounts decides, not what the spec once said: it has the driver's files in it too.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::mountinfo::Mount;

/// What the cover of a masked file is called outside, as in runc.
pub const NULL_DEVICE: &str = "/dev/null";

/// The kernel's own filesystems, which CRIU mounts anew. They may have the host's device number
/// without being the host's mount.
const KERNEL: [&str; 12] = [
    "proc",
    "sysfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "binfmt_misc",
    "pstore",
    "fusectl",
];

/// What of the spec decides about mounts.
#[derive(Debug, Default)]
pub struct Known {
    /// The spec's mount points, and whether each is a bind mount.
    points: Vec<(PathBuf, bool)>,
    /// The spec's masked paths.
    masked: HashSet<PathBuf>,
    /// Whether the container has a cgroup namespace of its own.
    cgroup_namespace: bool,
}

impl Known {
    /// Reads the spec.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref());
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref());
        let points = spec.mounts().iter().flatten().map(|mount| {
            let options = mount.options().as_deref().unwrap_or_default();
            let bind = mount.typ().as_deref() == Some("bind")
                || options.iter().any(|option| option == "bind" || option == "rbind");
            (mount.destination().components().collect(), bind)
        });
        Self {
            points: points.collect(),
            masked: masked.unwrap_or_default().iter().map(PathBuf::from).collect(),
            cgroup_namespace: namespaces
                .unwrap_or_default()
                .iter()
                .any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup),
        }
    }

    /// Whether the innermost of the spec's mounts that holds `path` is a bind mount.
    fn is_in_bind(&self, path: &Path) -> bool {
        let holding = self.points.iter().filter(|(point, _)| path.starts_with(point));
        holding.max_by_key(|(point, _)| point.components().count()).is_some_and(|(_, bind)| *bind)
    }
}

/// The mounts among `container`'s that come from outside: where each is, and the name under which
/// it is asked for on restore, which is the same path but for masked files. `host` are the
/// runtime's own mounts.
#[must_use]
pub fn of(container: &[Mount], host: &[Mount], known: &Known) -> Vec<(PathBuf, PathBuf)> {
    let host: HashSet<&str> = host.iter().map(|mount| mount.device.as_str()).collect();
    // Filesystems of which the container has the whole.
    let whole: HashSet<&str> = container
        .iter()
        .filter(|mount| mount.root == Path::new("/"))
        .map(|mount| mount.device.as_str())
        .collect();
    let Some(root) = container.iter().rfind(|mount| mount.point == Path::new("/")) else {
        return Vec::new();
    };
    let is_external = |mount: &Mount| {
        if mount.device == root.device {
            return known.is_in_bind(&mount.point) || !mount.root.starts_with(&root.root);
        }
        match mount.fstype.as_str() {
            "cgroup" | "cgroup2" if !known.cgroup_namespace => true,
            fstype if KERNEL.contains(&fstype) => known.is_in_bind(&mount.point),
            "tmpfs" => {
                host.contains(mount.device.as_str()) || !whole.contains(mount.device.as_str())
            }
            _ => true,
        }
    };
    let mut found: Vec<(PathBuf, PathBuf)> = container
        .iter()
        .filter(|mount| mount.point != Path::new("/"))
        .filter_map(|mount| {
            if !is_external(mount) {
                return None;
            }
            // Where /dev is not the container's own, neither is the null device over masked files.
            let masked = known.masked.contains(&mount.point) && mount.root.ends_with("null");
            let name = if masked { NULL_DEVICE.into() } else { mount.point.clone() };
            Some((mount.point.clone(), name))
        })
        .collect();
    // Several mounts on one point share its name.
    let mut seen = HashSet::new();
    found.retain(|(point, _)| seen.insert(point.clone()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::tests::mount;

    fn known(points: &[(&str, bool)], masked: &[&str], cgroup_namespace: bool) -> Known {
        Known {
            points: points.iter().map(|(point, bind)| (point.into(), *bind)).collect(),
            masked: masked.iter().map(PathBuf::from).collect(),
            cgroup_namespace,
        }
    }

    fn names(found: &[(PathBuf, PathBuf)]) -> Vec<String> {
        let name = |(point, name): &(PathBuf, PathBuf)| {
            if point == name {
                point.display().to_string()
            } else {
                format!("{}={}", point.display(), name.display())
            }
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn only_what_was_mounted_from_outside_is_external() {
        let container = [
            "8:1 /images/one / ext4",
            "0:50 / /proc proc",
            "0:51 / /dev tmpfs",
            "0:52 / /dev/pts devpts",
            "0:52 /0 /dev/console devpts",
            "0:20 / /sys sysfs",
            "8:1 /etc/resolv.conf /etc/resolv.conf ext4",
            "8:1 /images/one/secret /secret ext4",
            "8:1 /images/one/ro /ro ext4",
            "8:2 /driver/libcuda.so.1 /usr/lib/libcuda.so.1 ext4",
            "0:60 /1 /etc/ld.so.cache tmpfs",
            "0:61 / /opt tmpfs",
            "0:62 / /opt overlay",
            "0:50 /sys /proc/sys proc",
            "0:51 /null /proc/keys tmpfs",
            "0:5 /null /proc/kcore devtmpfs",
            "0:63 / /proc/acpi tmpfs",
            "0:64 / /run tmpfs",
            "0:19 / /shared tmpfs",
        ]
        .map(mount);
        let host = ["8:1 / / ext4", "0:20 / /sys sysfs", "0:19 / /shared tmpfs"].map(mount);
        let known = known(
            &[("/proc", false), ("/dev", false), ("/sys", false), ("/secret", true)],
            &["/proc/kcore", "/proc/keys", "/proc/acpi"],
            true,
        );
        assert_eq!(
            names(&of(&container, &host, &known)),
            [
                "/etc/resolv.conf",
                "/secret",
                "/usr/lib/libcuda.so.1",
                "/etc/ld.so.cache",
                "/opt",
                "/proc/kcore=/dev/null",
                "/shared",
            ]
        );
    }

    #[test]
    fn cgroup_directories_are_external_without_a_cgroup_namespace_only() {
        let container = [
            "0:40 / / overlay",
            "0:41 / /sys/fs/cgroup tmpfs",
            "0:27 /a /sys/fs/cgroup/cpu cgroup",
        ]
        .map(mount);
        let host = ["0:27 / /sys/fs/cgroup/cpu cgroup"].map(mount);
        let without = known(&[("/sys/fs/cgroup", false)], &[], false);
        assert_eq!(names(&of(&container, &host, &without)), ["/sys/fs/cgroup/cpu"]);
        let with = known(&[("/sys/fs/cgroup", false)], &[], true);
        assert!(of(&container, &host, &with).is_empty());
    }

    #[test]
    fn a_bind_of_the_hosts_sysfs_is_external_and_a_tmpfs_inside_a_bind_is_not() {
        let container = [
            "0:40 / / overlay",
            "0:20 / /sys sysfs",
            "8:1 /d /data ext4",
            "0:70 / /data/tmp tmpfs",
        ]
        .map(mount);
        let host = ["8:1 / / ext4", "0:20 / /sys sysfs"].map(mount);
        let known = known(&[("/sys", true), ("/data", true), ("/data/tmp", false)], &[], false);
        assert_eq!(names(&of(&container, &host, &known)), ["/sys", "/data"]);
    }
}
