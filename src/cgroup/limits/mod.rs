//! The OCI resources (except devices), one file per controller, both cgroup versions in it.
//!
//! What is asked for and cannot be had is an error that names the controller or the field; what
//! is not asked for is not touched, so the same code serves create and update. A value of 0 means
//! "not set" where the spec's own writers (Docker, containerd) use it so.

pub(in crate::cgroup) mod convert;
mod cpu;
mod hugetlb;
mod io;
mod memory;
mod network;
mod pids;
mod rdma;
mod unified;

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use super::{Cgroup, CgroupError, Driver, Mode, file};

impl Cgroup {
    /// Applies limits. `resources.devices` is not looked at ([`Cgroup::set_devices`]).
    ///
    /// # Errors
    /// [`CgroupError::Value`], [`CgroupError::NoController`], or the file that refused its value.
    /// What was written before the error stays.
    pub fn set(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match &self.driver {
            Driver::Cgroupfs => self.set_files(resources),
            Driver::Systemd(unit) => {
                if let Some(memory) = resources.memory() {
                    // Before systemd writes the file.
                    memory::check(&self.knobs("memory"), memory)?;
                }
                let resources = self.set_limit_properties(unit, resources)?;
                self.set_files(&resources)
            }
        }
    }

    /// Writes the files.
    pub(super) fn set_files(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        if let Some(pids) = resources.pids() {
            pids::set(&self.knobs("pids"), pids)?;
        }
        if let Some(memory) = resources.memory() {
            memory::set(&self.knobs("memory"), memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            cpu::set(&self.knobs("cpu"), cpu)?;
            cpu::set_cpuset(&self.knobs("cpuset"), cpu)?;
        }
        if let Some(block) = resources.block_io() {
            io::set(&self.knobs(if self.mode == Mode::V2 { "io" } else { "blkio" }), block)?;
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            hugetlb::set(&self.knobs("hugetlb"), limit)?;
        }
        if let Some(network) = resources.network() {
            network::set(&self.knobs("net_cls"), &self.knobs("net_prio"), network)?;
        }
        for (device, limit) in resources.rdma().iter().flatten() {
            rdma::set(&self.knobs("rdma"), device, limit)?;
        }
        if let Some(unified) = resources.unified() {
            unified::set(self.mode, &self.knobs("unified"), unified)?;
        }
        Ok(())
    }

    fn knobs(&self, controller: &'static str) -> Knobs {
        let v2 = self.mode == Mode::V2;
        Knobs { dir: self.controller_dir(controller), v2, controller }
    }
}

/// The files of one controller.
struct Knobs {
    /// `None`: the machine has no such controller (v1).
    dir: Option<PathBuf>,
    v2: bool,
    controller: &'static str,
}

impl Knobs {
    /// Writes a file that must be there.
    fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        match file::write(self.dir()?, name, value) {
            Err(err) if err.is_absent() => Err(self.absent(err)),
            done => done,
        }
    }

    /// Writes a file that older kernels lack. Returns whether it was there.
    fn write_if_present(&self, name: &str, value: &str) -> Result<bool, CgroupError> {
        match file::write(self.dir()?, name, value) {
            Err(err) if err.is_absent() => Ok(false),
            done => done.map(|()| true),
        }
    }

    fn read(&self, name: &str) -> Result<String, CgroupError> {
        file::read(self.dir()?, name)
    }

    fn read_u64(&self, name: &str) -> Result<u64, CgroupError> {
        file::read_u64(self.dir()?, name)
    }

    fn has(&self, name: &str) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.join(name).exists())
    }

    fn dir(&self) -> Result<&std::path::Path, CgroupError> {
        self.dir.as_deref().ok_or_else(|| CgroupError::NoController {
            limit: self.controller,
            reason: format!("this machine has no {} controller", self.controller),
        })
    }

    /// Turns "no such file" into the reason, where that is the controller.
    fn absent(&self, err: CgroupError) -> CgroupError {
        let Some(dir) = self.dir.as_ref().filter(|_| self.v2) else {
            return err;
        };
        let enabled = file::read(dir, "cgroup.controllers").unwrap_or_default();
        if enabled.split_ascii_whitespace().any(|name| name == self.controller) {
            return err;
        }
        CgroupError::NoController {
            limit: self.controller,
            reason: format!(
                "the {} controller is not available in {}",
                self.controller,
                dir.display()
            ),
        }
    }
}

/// An error about a field of the spec.
fn invalid(field: impl Into<String>, reason: impl Into<String>) -> CgroupError {
    CgroupError::Value { field: field.into(), reason: reason.into() }
}

/// A field that the other cgroup version has no file for.
fn only_on_v1(field: &str) -> CgroupError {
    invalid(field, "it has no equivalent on cgroup v2; remove it")
}

/// The numbers of a block device.
fn block_device(field: &str, major: i64, minor: i64) -> Result<String, CgroupError> {
    if (0..=0xfff).contains(&major) && (0..=0xf_ffff).contains(&minor) {
        Ok(format!("{major}:{minor}"))
    } else {
        Err(invalid(field, format!("there is no device {major}:{minor}")))
    }
}

#[cfg(test)]
mod tests;
