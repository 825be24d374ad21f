//! The systemd driver: systemd makes the cgroup, as a scope around the container's first process.
//!
//! What belongs here: everything that is different because systemd owns the cgroup tree. What does
//! not: writing files of a cgroup, which both drivers do alike (systemd has no property for some
//! limits, and gpurun's own device program stays in place while systemd replaces its own).
//!
//! | file | holds |
//! |---|---|
//! | `name` | `cgroupsPath` as `slice:prefix:name`, and what the unit is called |
//! | `scope` | the life of the unit: start, change, stop |
//! | `limits` | limits as properties |
//! | `unified` | files of cgroup v2, given by name, as properties |
//! | `devices` | device rules as properties, which is what makes them survive a daemon-reload |
//! | `annotation` | properties from the container's annotations |
//! | `manager` | systemd's own D-Bus methods |
//! | `dbus/` | the D-Bus client |

mod annotation;
mod dbus;
mod devices;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod limits;
mod manager;
mod name;
mod scope;
mod unified;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CgroupError, locate};
use crate::sys;
use manager::Manager;
use name::Name;

pub use annotation::{Asked, properties as properties_of_annotations};
pub use dbus::DbusError;
pub use manager::Property;
pub use scope::NewScope;

/// Which systemd has the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instance {
    /// Process 1.
    System,
    /// The user's own, for callers without root's rights.
    User,
}

/// A container's unit. Kept in the state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Such as `docker-1234.scope`.
    pub name: String,
    /// Such as `system.slice`.
    pub slice: String,
    /// Whose it is.
    pub instance: Instance,
}

/// Where systemd says that it runs ([sd_booted(3)]).
///
/// [sd_booted(3)]: https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html
const BOOTED: &str = "/run/systemd/system";

impl Unit {
    /// The unit that a spec asks for, and its place in a cgroup hierarchy, absolute.
    ///
    /// # Errors
    /// [`CgroupError::Path`], [`CgroupError::NoSystemd`], and for callers without root's rights
    /// whatever keeps them from their own systemd.
    pub(super) fn locate(
        cgroups_path: Option<&Path>,
        id: &str,
    ) -> Result<(Self, String), CgroupError> {
        let instance = Instance::of_caller();
        let Name { slice, unit } = Name::parse(cgroups_path, id, instance)?;
        if !Path::new(BOOTED).is_dir() {
            return Err(CgroupError::NoSystemd);
        }
        let mut place = name::expand_slice(&slice).unwrap_or_default();
        let unit = Self { name: unit, slice, instance };
        if instance == Instance::User {
            if !locate::is_unified() {
                return Err(CgroupError::NoUserSystemd);
            }
            // Its slices are below its own cgroup.
            let own = unit.ask("find the place of", Manager::control_group)?;
            place = format!("{own}{place}");
        }
        let place = format!("{place}/{}", unit.name);
        Ok((unit, place))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(DbusError) -> CgroupError + use<> {
        let unit = self.name.clone();
        move |source| CgroupError::Unit { action, unit, source }
    }
}

impl Instance {
    /// Root talks to process 1. In a user namespace root is somebody else outside, unless a
    /// systemd runs in it as well; that one leaves no bus of a user behind.
    fn of_caller() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::User;
        }
        match sys::process::in_user_namespace().unwrap_or(true) && manager::has_user_bus() {
            true => Self::User,
            false => Self::System,
        }
    }
}
