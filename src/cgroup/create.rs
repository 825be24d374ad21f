//! Making the cgroup: directories, controllers, device rules, limits; then it waits for its first
//! process. Until everything is in place no process is in it, so nothing ever runs with less.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode as FileMode, OFlags};

use super::devices::{v1, v2};
use super::systemd::Instance;
use super::{
    Cgroup, CgroupError, Claim, DeviceRules, Driver, Hierarchy, Mode, claim, file, procs, tree,
};

/// How often what is above a cgroup is made again.
const PARENT_TRIES: u32 = 5;

/// The directories that were made, outermost first; removed again unless [`Made::keep`] is called.
#[derive(Default)]
pub(super) struct Made {
    dirs: Vec<PathBuf>,
    /// On the first of the container's own; given up when they have gone.
    claim: Option<Claim>,
}

impl Made {
    pub(super) fn push(&mut self, dir: &Path) {
        self.dirs.push(dir.to_owned());
    }

    pub(super) fn keep(mut self) -> Option<Claim> {
        self.dirs.clear();
        self.claim.take()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            // The first error is being reported already.
            let _ = fs::remove_dir(dir);
        }
    }
}

impl Cgroup {
    /// Makes the cgroup with its final device rules and limits. What had to be made is removed
    /// again when anything fails. The claim is to be kept until a process is in it.
    ///
    /// # Errors
    /// [`CgroupError::NotEmpty`] and [`CgroupError::Frozen`] when somebody lives there already;
    /// otherwise the directory, file or device program that failed.
    pub fn create(
        &mut self,
        resources: Option<&LinuxResources>,
        devices: &DeviceRules,
    ) -> Result<Option<Claim>, CgroupError> {
        let mut made = Made::default();
        let mut fresh = true;
        for hierarchy in self.by_importance() {
            fresh &= self.create_in(&hierarchy, resources, &mut made)?;
        }
        self.set_device_files(devices, fresh)?;
        if let Some(resources) = resources {
            self.set_files(resources)?;
        }
        Ok(made.keep())
    }

    /// The one with its processes first, because that is claimed.
    pub(super) fn by_importance(&self) -> Vec<Hierarchy> {
        let mut all = self.hierarchies.clone();
        all.sort_by_key(|hierarchy| !hierarchy.has("devices"));
        all
    }

    /// Adds what systemd has left out of the cgroup that it has just made around process `pid`:
    /// hierarchies and controllers that it does not know, limits that it has no property for, and
    /// gpurun's own device program.
    ///
    /// # Errors
    /// As [`Cgroup::create`]; what was made is for [`Cgroup::delete`].
    pub(super) fn complete(
        &self,
        pid: i32,
        resources: Option<&LinuxResources>,
        devices: &DeviceRules,
    ) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.dir();
            if self.mode != Mode::V2 {
                let mut made = Made::default();
                make_dirs(&dir, &hierarchy.mount, &mut made)?;
                let _ = made.keep();
            }
            self.prepare(hierarchy, &dir, resources)?;
        }
        if self.mode != Mode::V2 {
            self.join(pid)?;
        }
        match self.set_device_files(devices, false) {
            // An ordinary user cannot load a program, and opens no foreign device anyway.
            Err(err) if self.is_of_user() && err.is_permission() => {}
            done => done?,
        }
        resources.map_or(Ok(()), |resources| self.set_files(resources))
    }

    fn is_of_user(&self) -> bool {
        matches!(&self.driver, Driver::Systemd(unit) if unit.instance == Instance::User)
    }

    /// Replaces the device rules of a running container. A device that is allowed before and
    /// after stays allowed, and nothing else becomes allowed in between: on v2 the program is
    /// exchanged in one step; on v1 the difference is written, and where v1 has no such way (a
    /// change of the default) the processes are frozen meanwhile.
    ///
    /// # Errors
    /// [`CgroupError::Device`], and write errors.
    pub fn set_devices(&self, devices: &DeviceRules) -> Result<(), CgroupError> {
        if let Driver::Systemd(unit) = &self.driver {
            self.set_device_properties(unit, devices)?;
        }
        self.set_device_files(devices, false)
    }

    fn set_device_files(&self, devices: &DeviceRules, fresh: bool) -> Result<(), CgroupError> {
        match self.mode {
            Mode::V1 | Mode::Hybrid => self.set_devices_v1(devices),
            Mode::V2 => self.set_devices_v2(devices, fresh),
        }
    }

    /// The cgroup v2 directory for `CLONE_INTO_CGROUP`. `None` on v1 and hybrid machines, where
    /// a process has to be moved with [`Cgroup::join`].
    ///
    /// # Errors
    /// When it does not exist.
    pub fn open_v2(&self) -> Result<Option<OwnedFd>, CgroupError> {
        match (self.mode, self.v2_dir()) {
            (Mode::V2, Some(dir)) => open_dir(&dir).map(Some),
            _ => Ok(None),
        }
    }

    /// Makes the directory in one hierarchy; the first is claimed. Returns whether it is new.
    pub(super) fn create_in(
        &mut self,
        hierarchy: &Hierarchy,
        resources: Option<&LinuxResources>,
        made: &mut Made,
    ) -> Result<bool, CgroupError> {
        let dir = hierarchy.dir();
        let fresh = if made.claim.is_none() {
            let (claim, fresh) = claim::make(&dir, &hierarchy.mount, made)?;
            self.id = Some(claim.id);
            made.claim = Some(claim);
            fresh
        } else if make_dirs(&dir, &hierarchy.mount, made)? {
            made.push(&dir);
            true
        } else {
            claim::refuse_inhabited(&dir)?;
            // Empty ones of an earlier container would keep their limits.
            tree::clear(&dir)?;
            false
        };
        self.prepare(hierarchy, &dir, resources)?;
        Ok(fresh)
    }

    /// Makes the directory of one hierarchy fit for processes and limits.
    fn prepare(
        &self,
        hierarchy: &Hierarchy,
        dir: &Path,
        resources: Option<&LinuxResources>,
    ) -> Result<(), CgroupError> {
        if self.mode == Mode::V2 {
            enable_controllers(hierarchy, dir)?;
        } else if hierarchy.has("cpuset") {
            let cpu = resources.and_then(|resources| resources.cpu().as_ref());
            let given = |value: Option<&String>| value.is_some_and(|list| !list.is_empty());
            if !given(cpu.and_then(|cpu| cpu.cpus().as_ref())) {
                inherit_cpuset(dir, &hierarchy.mount, "cpuset.cpus")?;
            } else if let Some(parent) = dir.parent() {
                inherit_cpuset(parent, &hierarchy.mount, "cpuset.cpus")?;
            }
            if !given(cpu.and_then(|cpu| cpu.mems().as_ref())) {
                inherit_cpuset(dir, &hierarchy.mount, "cpuset.mems")?;
            } else if let Some(parent) = dir.parent() {
                inherit_cpuset(parent, &hierarchy.mount, "cpuset.mems")?;
            }
        }
        Ok(())
    }

    fn set_devices_v1(&self, devices: &DeviceRules) -> Result<(), CgroupError> {
        let dir = self.controller_dir("devices").ok_or_else(|| CgroupError::NoController {
            limit: "devices",
            reason: "the devices hierarchy is not mounted".to_owned(),
        })?;
        let transition = v1::plan(&dir, devices)?;
        let thaw =
            transition.is_disruptive() && !procs::of_dir(&dir)?.is_empty() && !self.is_frozen()?;
        if thaw {
            self.freeze()?;
        }
        let written = v1::write(&dir, &transition, devices);
        if thaw {
            self.thaw()?;
        }
        written
    }

    fn set_devices_v2(&self, devices: &DeviceRules, fresh: bool) -> Result<(), CgroupError> {
        let Some(dir) = self.v2_dir() else {
            return Ok(());
        };
        let fd = open_dir(&dir)?;
        if fresh {
            v2::attach(&dir, fd.as_fd(), devices)?;
        } else {
            v2::replace(&dir, fd.as_fd(), devices)?;
        }
        Ok(())
    }
}

fn open_dir(dir: &Path) -> Result<OwnedFd, CgroupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, FileMode::empty()).map_err(|err| CgroupError::Directory {
        action: "open",
        dir: dir.to_owned(),
        source: err.into(),
    })
}

/// Makes `dir` and what is missing between it and `mount`, which is entered in `made`. Returns
/// whether `dir`, which is not, is new.
pub(super) fn make_dirs(dir: &Path, mount: &Path, made: &mut Made) -> Result<bool, CgroupError> {
    for _ in 0..PARENT_TRIES {
        match make_dir(dir) {
            Ok(()) => return Ok(true),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            // What is above it may be another's that fails and takes it away again.
            Err(err) if err.kind() == io::ErrorKind::NotFound && dir != mount => {
                if let Some(parent) = dir.parent()
                    && make_dirs(parent, mount, made)?
                {
                    made.push(parent);
                }
            }
            Err(source) => return Err(failed(dir, source)),
        }
    }
    Err(failed(dir, io::ErrorKind::NotFound.into()))
}

/// Engines start a runtime with any umask, also 0; a cgroup must not be everybody's.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(dir)
}

fn failed(dir: &Path, source: io::Error) -> CgroupError {
    CgroupError::Directory { action: "create", dir: dir.to_owned(), source }
}

/// Hands every controller of the hierarchy down to `dir`, from the top. Where that does not work
/// for one (a parent with processes, a controller that another namespace holds back), the limit
/// that needs it says so.
fn enable_controllers(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    let wanted = file::read(&hierarchy.mount, "cgroup.controllers")?;
    if wanted.trim().is_empty() {
        return Ok(());
    }
    let there = file::read(dir, "cgroup.controllers")?;
    let missing: Vec<&str> = wanted
        .split_ascii_whitespace()
        .filter(|name| !there.split_ascii_whitespace().any(|have| have == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let plus = |name: &&str| format!("+{name}");
    let all = missing.iter().map(plus).collect::<Vec<_>>().join(" ");
    let mut ancestors: Vec<&Path> =
        dir.ancestors().skip(1).take_while(|path| path.starts_with(&hierarchy.mount)).collect();
    ancestors.reverse();
    for ancestor in ancestors {
        // All at once is all or nothing, so one that fails must not take the others with it.
        if file::write(ancestor, "cgroup.subtree_control", &all).is_err() {
            for name in &missing {
                let _ = file::write(ancestor, "cgroup.subtree_control", &plus(name));
            }
        }
    }
    let kind = file::read(dir, "cgroup.type")?;
    if kind.trim() == "domain" {
        return Ok(());
    }
    Err(CgroupError::NoHierarchy(format!(
        "{} is of type \"{}\", because an ancestor has processes or is threaded; \
         choose a cgroupsPath below another cgroup",
        dir.display(),
        kind.trim()
    )))
}

/// A v1 cpuset cgroup starts with no CPU and no memory node and takes no process until it has
/// some: it gets its parent's, which may need them first.
fn inherit_cpuset(dir: &Path, mount: &Path, name: &str) -> Result<(), CgroupError> {
    if dir == mount || !dir.starts_with(mount) || !file::read(dir, name)?.trim().is_empty() {
        return Ok(());
    }
    let Some(parent) = dir.parent() else {
        return Ok(());
    };
    inherit_cpuset(parent, mount, name)?;
    file::write(dir, name, file::read(parent, name)?.trim())
}
