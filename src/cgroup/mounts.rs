//! What the init needs to give the container its `cgroup` mount.
//!
//! With a cgroup namespace the filesystem itself is mounted; without one the container's own
//! directories are bound, so that it does not see its neighbours.

use std::path::PathBuf;

use super::{Cgroup, Mode};

/// What a mount of type `cgroup` consists of in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerMounts {
    /// One `cgroup2` filesystem.
    V2 {
        /// Where cgroup v2 is mounted on the host.
        host_mount: PathBuf,
        /// The container's cgroup on the host, to bind without a cgroup namespace.
        cgroup_dir: PathBuf,
    },
    /// A tmpfs with one directory per hierarchy and links for controllers mounted together.
    V1 {
        /// The hierarchies.
        mounts: Vec<V1Mount>,
        /// Links beside them: name and text, such as `cpu` → `cpu,cpuacct`.
        links: Vec<(String, String)>,
    },
}

/// One cgroup v1 hierarchy in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Mount {
    /// The directory's name, as on the host: `memory`, `cpu,cpuacct`, `systemd`.
    pub name: String,
    /// The option string for a mount of type `cgroup`: `memory`, `cpu,cpuacct`, `name=systemd`.
    pub options: String,
    /// Where the hierarchy is mounted on the host.
    pub host_mount: PathBuf,
    /// The container's cgroup on the host, to bind without a cgroup namespace.
    pub cgroup_dir: PathBuf,
}

impl Cgroup {
    /// The parts of the container's `cgroup` mount. A hybrid machine's v2 hierarchy is left out,
    /// as in runc.
    #[must_use]
    pub fn mounts_for_container(&self) -> ContainerMounts {
        if self.mode == Mode::V2
            && let Some(hierarchy) = self.hierarchies.first()
        {
            return ContainerMounts::V2 {
                host_mount: hierarchy.mount.clone(),
                cgroup_dir: hierarchy.dir(),
            };
        }
        let mut mounts = Vec::new();
        let mut links = Vec::new();
        for hierarchy in self.hierarchies.iter().filter(|hierarchy| !hierarchy.is_v2()) {
            let name = match hierarchy.mount.file_name() {
                Some(name) => name.to_string_lossy().into_owned(),
                None => hierarchy.controllers.join(","),
            };
            for controller in hierarchy.controllers.iter().filter(|one| !one.contains('=')) {
                if *controller != name {
                    links.push((controller.clone(), name.clone()));
                }
            }
            mounts.push(V1Mount {
                name,
                options: hierarchy.controllers.join(","),
                host_mount: hierarchy.mount.clone(),
                cgroup_dir: hierarchy.dir(),
            });
        }
        ContainerMounts::V1 { mounts, links }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Driver, Hierarchy};
    use super::*;

    fn hierarchy(controllers: &[&str], mount: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(ToString::to_string).collect(),
            mount: PathBuf::from(mount),
            path: PathBuf::from("box"),
        }
    }

    #[test]
    fn controllers_mounted_together_get_a_link_each() {
        let cgroup = Cgroup {
            mode: Mode::Hybrid,
            driver: Driver::Cgroupfs,
            hierarchies: vec![
                hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct"),
                hierarchy(&["memory"], "/sys/fs/cgroup/memory"),
                hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd"),
                hierarchy(&[], "/sys/fs/cgroup/unified"),
            ],
            refused: Vec::new(),
            id: None,
        };
        let ContainerMounts::V1 { mounts, links } = cgroup.mounts_for_container() else {
            panic!("v1 expected");
        };
        let names: Vec<_> = mounts.iter().map(|m| (m.name.as_str(), m.options.as_str())).collect();
        assert_eq!(
            names,
            [("cpu,cpuacct", "cpu,cpuacct"), ("memory", "memory"), ("systemd", "name=systemd")]
        );
        let link = |name: &str| (name.to_owned(), "cpu,cpuacct".to_owned());
        assert_eq!(links, [link("cpu"), link("cpuacct")]);
        assert_eq!(mounts[1].cgroup_dir, PathBuf::from("/sys/fs/cgroup/memory/box"));
    }
}
