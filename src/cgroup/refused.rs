//! What is left of a cgroup for a caller who may not make one: an ordinary user, or the root of a
//! user namespace. As runc's rootless managers.
//!
//! Device rules are given up first: what keeps such a container from the host's devices is that it
//! cannot make a device node, and that those it is given have an owner and a mode.

use std::path::Path;

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Access, access};

use super::create::Made;
use super::{Cgroup, CgroupError, Claim, DeviceRules, Hierarchy, Mode};

impl Cgroup {
    /// As [`Cgroup::create`], for a caller who may not do all of it. Returns the first refusal,
    /// which the user should hear of, and the claim on what was made.
    ///
    /// With `path_was_given` (a `cgroupsPath` in the spec) the directories must be had; without,
    /// the hierarchies that refuse them are left out. In both cases device rules are set only
    /// where that is permitted, and limits must be had.
    ///
    /// # Errors
    /// [`CgroupError::Refused`] for a given path; [`CgroupError::NoController`] for a limit in a
    /// hierarchy that was left out; those of [`Cgroup::create`].
    pub fn create_where_permitted(
        &mut self,
        resources: Option<&LinuxResources>,
        devices: &DeviceRules,
        path_was_given: bool,
    ) -> Result<(Option<Claim>, Option<CgroupError>), CgroupError> {
        let mut first = None;
        let mut made = Made::default();
        let wanted = self.by_importance();
        self.hierarchies.clear();
        for hierarchy in wanted {
            match self.make_in(&hierarchy, resources, &mut made, path_was_given) {
                Ok(()) => self.hierarchies.push(hierarchy),
                Err(error) if !error.is_permission() => return Err(error),
                Err(error) if path_was_given => return Err(CgroupError::Refused(Box::new(error))),
                Err(error) => {
                    self.refused.push(hierarchy);
                    first.get_or_insert(error);
                }
            }
        }
        // One that was claimed may have been refused after all.
        self.recognise();
        if self.has_device_rules() {
            match self.set_devices(devices) {
                Err(error) if error.is_permission() => {
                    first.get_or_insert(error);
                }
                done => done?,
            }
        }
        if let Some(resources) = resources {
            self.set(resources)?;
        }
        Ok((made.keep(), first))
    }

    /// Whether the caller had no right to make any of the container's cgroup, so that nobody
    /// counts its processes.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.hierarchies.is_empty() && !self.refused.is_empty()
    }

    /// Why there is no directory for `controller`.
    pub(super) fn why_without(&self, controller: &str) -> String {
        let refused = |hierarchy: &Hierarchy| self.mode == Mode::V2 || hierarchy.has(controller);
        if !self.refused.iter().any(refused) {
            return format!("this machine has no {controller} controller");
        }
        let rule = match self.mode {
            // runc's words, each for its version.
            Mode::V2 => {
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
            }
            Mode::V1 | Mode::Hybrid => "container could not join or create cgroup",
        };
        format!("{rule}; run below a cgroup that is delegated to this user")
    }

    fn make_in(
        &mut self,
        hierarchy: &Hierarchy,
        resources: Option<&LinuxResources>,
        made: &mut Made,
        path_was_given: bool,
    ) -> Result<(), CgroupError> {
        if self.mode == Mode::V2 && !path_was_given {
            // A process moves only where its mover may write in the nearest cgroup above both:
            // here the parent, because the path counts from gpurun's own.
            may_move(hierarchy.dir().parent().unwrap_or(&hierarchy.mount))?;
        }
        self.create_in(hierarchy, resources, made).map(drop)
    }

    fn has_device_rules(&self) -> bool {
        self.mode == Mode::V2 && !self.hierarchies.is_empty()
            || self.hierarchies.iter().any(|hierarchy| hierarchy.has("devices"))
    }
}

fn may_move(above: &Path) -> Result<(), CgroupError> {
    let procs = above.join("cgroup.procs");
    access(&procs, Access::WRITE_OK).map_err(|err| CgroupError::Write {
        file: procs,
        value: "a process".to_owned(),
        source: err.into(),
    })
}
