//! The life of the unit: start, change, stop.
//!
//! A scope is made around a process that exists, so the order differs from cgroupfs: the init is
//! cloned first and waits, without having done anything, until its scope is there with all rules
//! and limits. Nothing of the container runs before.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::dbus::{DbusError, Value};
use super::{Instance, Manager, Property, Unit, devices, limits, unified};
use crate::cgroup::{Cgroup, CgroupError, DeviceRules, Mode, procs};

/// A unit of this name is there already.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// There is no such unit (any more).
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// How often a name that is taken is tried, with waits of 10, 20, 40 … ms: an ended container's
/// scope stays for a moment.
const TRIES: u32 = 6;

/// What a container's scope starts with.
#[derive(Debug, Clone, Copy)]
pub struct NewScope<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its limits.
    pub resources: Option<&'a LinuxResources>,
    /// Its final device rules.
    pub devices: &'a DeviceRules,
    /// What its annotations ask for.
    pub properties: &'a [Property],
}

impl Cgroup {
    /// Makes the container's scope around process `pid`, which must wait meanwhile. When it comes
    /// back, the process is in its cgroup, with its device rules and limits.
    ///
    /// # Errors
    /// [`CgroupError::UnitExists`]: nothing was changed. Otherwise the unit may be there and is
    /// for [`Cgroup::delete`].
    pub fn adopt(&self, unit: &Unit, pid: i32, new: &NewScope<'_>) -> Result<(), CgroupError> {
        let mut manager = unit.manager()?;
        let version = manager.version().map_err(unit.failed("ask systemd's version for"))?;
        let mut properties = unit.base(self.mode(), pid, new.id);
        properties.extend_from_slice(new.properties);
        let files = new.resources.and_then(|resources| resources.unified().as_ref());
        properties.extend(files.and_then(|files| unified::oom_policy(files, version)));
        let mut resources = new.resources.map(Cow::Borrowed);
        if let Some(given) = new.resources {
            let (limits, adjusted) = limits::properties(given, self.mode(), version)?;
            properties.extend(limits);
            resources = Some(adjusted);
        }
        // Last, so that no annotation opens what the container's own rules close.
        properties.extend(unit.devices(new.devices, self.mode(), version)?);

        start(&mut manager, unit, &properties)?;
        self.require_member(unit, pid)?;
        self.complete(pid, resources.as_deref(), new.devices)
    }

    /// Sets limits of a scope that runs. Returns them as they have to be in the files.
    pub(in crate::cgroup) fn set_limit_properties<'r>(
        &self,
        unit: &Unit,
        resources: &'r LinuxResources,
    ) -> Result<Cow<'r, LinuxResources>, CgroupError> {
        let mut manager = unit.manager()?;
        let version = manager.version().map_err(unit.failed("ask systemd's version for"))?;
        let (properties, resources) = limits::properties(resources, self.mode(), version)?;
        if !properties.is_empty() {
            manager
                .set_properties(&unit.name, properties)
                .map_err(unit.failed("set the limits of"))?;
        }
        Ok(resources)
    }

    /// Tells systemd the device rules of a scope that runs. On v1 systemd takes everything away
    /// before it gives anything back: the processes stand still meanwhile.
    pub(in crate::cgroup) fn set_device_properties(
        &self,
        unit: &Unit,
        rules: &DeviceRules,
    ) -> Result<(), CgroupError> {
        let mut manager = unit.manager()?;
        let version = manager.version().map_err(unit.failed("ask systemd's version for"))?;
        let properties = unit.devices(rules, self.mode(), version)?;
        if properties.is_empty() {
            return Ok(());
        }
        let freeze = self.mode() != Mode::V2 && !self.is_frozen()?;
        if freeze {
            self.freeze()?;
        }
        let set = manager.set_properties(&unit.name, properties);
        if freeze {
            self.thaw()?;
        }
        set.map_err(unit.failed("set the device rules of"))
    }

    /// Has systemd put a process into the cgroup, for a caller whom the kernel does not let.
    pub(in crate::cgroup) fn attach(&self, unit: &Unit, pid: i32) -> Result<(), CgroupError> {
        let failed = "put a process into";
        let pid = u32::try_from(pid)
            .map_err(|_| unit.failed(failed)(DbusError::Protocol("a pid is negative")))?;
        // This may be a cgroup below the unit's own.
        let place = self.hierarchies().first().map(|first| first.path.as_path());
        let mut parts = place.unwrap_or(Path::new("")).components();
        while parts.next().is_some_and(|part| part.as_os_str() != unit.name.as_str()) {}
        let below = parts.as_path().to_string_lossy().into_owned();
        unit.manager()?
            .attach(&unit.name, &format!("/{below}"), pid)
            .map_err(unit.failed(failed))
    }

    /// systemd and gpurun may see different trees, as when one of them is in a container: then
    /// limits would go into directories that nobody is in.
    fn require_member(&self, unit: &Unit, pid: i32) -> Result<(), CgroupError> {
        // On v1 systemd leaves some hierarchies to us; its own is always there.
        let own = self.hierarchies().iter().find(|hierarchy| {
            hierarchy.is_v2() || hierarchy.controllers.iter().any(|name| name == "name=systemd")
        });
        let Some(dir) = own.map(|hierarchy| hierarchy.dir()) else { return Ok(()) };
        if procs::of_dir(&dir)?.contains(&pid) {
            return Ok(());
        }
        let there = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Err(CgroupError::ElsewhereUnit {
            unit: unit.name.clone(),
            dir,
            there: there.trim().replace('\n', " "),
        })
    }
}

impl Unit {
    /// What every container's scope has, as in runc.
    fn base(&self, mode: Mode, pid: i32, id: &str) -> Vec<Property> {
        let io = if mode == Mode::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        let pids = u32::try_from(pid).map(Value::U32).into_iter().collect();
        let mut properties = vec![
            Property::new("Description", Value::Text(format!("gpurun container {id}"))),
            Property::new("Slice", Value::text(&*self.slice)),
            // What is below is the container's, or gpurun's.
            Property::new("Delegate", Value::Bool(true)),
            Property::new("PIDs", Value::Array("u".to_owned(), pids)),
            // It ends with its processes, not with the machine's targets.
            Property::new("DefaultDependencies", Value::Bool(false)),
        ];
        let accounting = ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"];
        properties.extend(accounting.map(|name| Property::new(name, Value::Bool(true))));
        properties
    }

    /// A user's systemd may not load device programs, so it gets no rules that it cannot keep.
    fn devices(
        &self,
        rules: &DeviceRules,
        mode: Mode,
        version: u32,
    ) -> Result<Vec<Property>, CgroupError> {
        let names = || fs::read_to_string("/proc/devices").unwrap_or_default();
        match self.instance {
            Instance::System => devices::properties(rules, mode, version, names),
            Instance::User => Ok(Vec::new()),
        }
    }

    /// Ends the unit and everything in it. One that is gone already is fine.
    pub(in crate::cgroup) fn stop(&self) -> Result<(), CgroupError> {
        let mut manager = self.manager()?;
        match manager.stop(&self.name) {
            Ok(()) => {}
            Err(err) if err.is(NO_SUCH_UNIT) => return Ok(()),
            Err(err) => return Err(self.failed("stop")(err)),
        }
        // One that failed, as after the OOM killer, would be kept for somebody to look at.
        match manager.reset_failed(&self.name) {
            Err(err) if !err.is(NO_SUCH_UNIT) => Err(self.failed("reset")(err)),
            _ => Ok(()),
        }
    }
}

/// Starts the scope. A name that is taken may be what is left of an ended container: systemd is
/// told to forget it, and gets a moment.
fn start(
    manager: &mut Manager,
    unit: &Unit,
    properties: &[Property],
) -> Result<(), CgroupError> {
    for attempt in 0..TRIES {
        match manager.start_transient(&unit.name, properties.to_vec()) {
            Ok(()) => return Ok(()),
            Err(err) if err.is(EXISTS) => {
                let _ = manager.reset_failed(&unit.name);
                std::thread::sleep(Duration::from_millis(10 << attempt));
            }
            Err(err) => return Err(unit.failed("start")(err)),
        }
    }
    Err(CgroupError::UnitExists { unit: unit.name.clone() })
}
