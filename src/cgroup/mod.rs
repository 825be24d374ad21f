//! The container's cgroup: where it is, its limits, its device rules, its processes, its end.
//!
//! What belongs here: everything that reads or writes a cgroup filesystem, and the device program
//! of cgroup v2. What does not: deciding which devices and limits a container gets (the spec and
//! the GPU plan), and mounting cgroups inside the container (the init, with [`mounts`]'s list).
//!
//! | file | holds |
//! |---|---|
//! | [`locate`] | which hierarchies the machine has, and the container's place in them |
//! | `create` | making the directories, controllers, device rules and limits, in this order |
//! | `claim` | whose a cgroup is: one container at a time, and not another's later |
//! | [`systemd`] | the other driver: systemd makes the directories, as a scope |
//! | [`devices`] | the device rules: one model, two writers |
//! | `limits/` | the OCI resources, one file per controller, both versions side by side |
//! | [`stats`] | what was used, one file per controller |
//! | `oom` | being told when memory runs out |
//! | `procs` | joining, listing and killing |
//! | `freezer` | freeze and thaw |
//! | `sub` | the cgroups below it that `exec --cgroup` names |
//! | `refused` | what is left for a caller who may not make cgroups |
//! | `delete` | removing the directories |
//! | `tree` | going through a cgroup and all below it |
//! | [`mounts`] | what the init needs to show the cgroup to the container |
//! | `file` | reading and writing one file of a cgroup |
//!
//! The files are written directly. The cgroups-rs crate (0.5.1) was considered for that, and each
//! of its controllers departs from what a runtime owes its user:
//!
//! * blkio, custom attributes: write errors are dropped, so a limit that was not set looks set;
//! * cpu: real-time limits, burst and idle are not written; period and quota in an order that the
//!   kernel may refuse on update; shares are not converted for v2;
//! * memory: no `checkBeforeUpdate`, no order between limit and swap, no memory+swap → swap;
//! * pids: the value is read back after each write and a difference is an error, so 0 fails;
//! * v2: controllers are taken from the root of the mount and a missing one is skipped silently;
//! * errors name the file without its cgroup, and it brings a D-Bus client that starts threads.

mod claim;
mod create;
mod delete;
pub mod devices;
mod error;
mod file;
mod freezer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod limits;
pub mod locate;
pub mod mounts;
mod oom;
mod procs;
mod refused;
pub mod stats;
mod sub;
pub mod systemd;
mod tree;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use claim::Claim;
pub use devices::{DeviceError, DeviceRule, DeviceRules};
pub use error::CgroupError;
pub use mounts::{ContainerMounts, V1Mount};
pub use oom::OomWatch;
pub use procs::KILL_TIMEOUT;
pub use stats::Stats;

/// Which cgroup filesystems the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Controllers on cgroup v1 only.
    V1,
    /// Controllers on cgroup v1, and a cgroup v2 hierarchy beside them that has none. Limits and
    /// device rules are v1's; the v2 cgroup is joined as well, for tools that look there.
    Hybrid,
    /// cgroup v2 only.
    V2,
}

/// Who makes the cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Driver {
    /// gpurun itself, with mkdir in the cgroup filesystem.
    #[default]
    Cgroupfs,
    /// systemd, as this unit.
    Systemd(systemd::Unit),
}

/// One mounted hierarchy and the container's directory in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The cgroup v1 controllers, or `name=systemd`; empty for cgroup v2.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The container's cgroup, relative to `mount`.
    pub path: PathBuf,
}

impl Hierarchy {
    /// The container's directory in this hierarchy.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// Whether this is cgroup v2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// A container's cgroup: one directory (v2) or one per hierarchy (v1). Kept in the state file;
/// holds no descriptor, and the directories need not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    mode: Mode,
    driver: Driver,
    hierarchies: Vec<Hierarchy>,
    /// Where the caller had no right to make a directory ([`Cgroup::create_where_permitted`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refused: Vec<Hierarchy>,
    /// Which cgroup it is, once it is made: the inode of the directory with its processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

impl Cgroup {
    /// Which cgroup filesystems the machine has.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Who makes the cgroup.
    #[must_use]
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The hierarchies with the container's place in them.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The directory that has this v1 controller's files, or any v2 controller's.
    #[must_use]
    pub fn controller_dir(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies
            .iter()
            .find(|hierarchy| match self.mode {
                Mode::V2 => true,
                Mode::V1 | Mode::Hybrid => hierarchy.has(controller),
            })
            .map(Hierarchy::dir)
    }

    /// The v2 directory, which a hybrid machine has as well.
    fn v2_dir(&self) -> Option<PathBuf> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_v2()).map(Hierarchy::dir)
    }

    /// Whether the container's directory exists in the hierarchy that counts its processes.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.process_dir().is_some_and(|dir| dir.is_dir())
    }
}
