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

use super::dbus::{DbusError, Deadline, Value};
use super::manager::NO_SUCH_UNIT;
use super::{Instance, Manager, Property, Unit, devices, limits, unified};
use crate::cgroup::{Cgroup, CgroupError, DeviceRules, Mode, procs};

/// A unit of this name is there already.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// How long a name that is taken is tried: an ended container's scope stays for a moment.
const LEFTOVER: Duration = Duration::from_millis(600);
/// How long systemd may be away while it executes itself anew.
const ABSENCE: Duration = Duration::from_secs(15);
/// The waits in between grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

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
        let version = unit.version()?;
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

        self.start(unit, pid, &properties)?;
        self.complete(pid, resources.as_deref(), new.devices)
    }

    /// Sets limits of a scope that runs. Returns them as they have to be in the files.
    pub(in crate::cgroup) fn set_limit_properties<'r>(
        &self,
        unit: &Unit,
        resources: &'r LinuxResources,
    ) -> Result<Cow<'r, LinuxResources>, CgroupError> {
        let version = unit.version()?;
        let (properties, resources) = limits::properties(resources, self.mode(), version)?;
        if !properties.is_empty() {
            unit.ask("set the limits of", |manager| {
                manager.set_properties(&unit.name, properties.clone())
            })?;
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
        let version = unit.version()?;
        let properties = unit.devices(rules, self.mode(), version)?;
        if properties.is_empty() {
            return Ok(());
        }
        let freeze = self.mode() != Mode::V2 && !self.is_frozen()?;
        if freeze {
            self.freeze()?;
        }
        let set = unit.ask("set the device rules of", |manager| {
            manager.set_properties(&unit.name, properties.clone())
        });
        if freeze {
            self.thaw()?;
        }
        set
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
        let below = format!("/{below}");
        unit.ask(failed, |manager| manager.attach(&unit.name, &below, pid))
    }

    /// Starts the scope. A name that is taken may be what is left of an ended container: systemd
    /// is told to forget it, and gets a moment.
    fn start(&self, unit: &Unit, pid: i32, properties: &[Property]) -> Result<(), CgroupError> {
        let (leftover, absence) = (Deadline::after(LEFTOVER), Deadline::after(ABSENCE));
        let mut pause = Duration::from_millis(5);
        loop {
            let started = Manager::connect(unit.instance).and_then(|mut manager| {
                let started = manager.start_transient(&unit.name, properties.to_vec());
                if started.as_ref().is_err_and(|err| err.is(EXISTS)) {
                    let _ = manager.reset_failed(&unit.name);
                }
                started
            });
            match started {
                Ok(()) => return self.require_member(unit, pid),
                // It went away when it had done it.
                Err(err)
                    if (err.is(EXISTS) || err.is_disconnect())
                        && self.require_member(unit, pid).is_ok() =>
                {
                    return Ok(());
                }
                Err(err) if err.is(EXISTS) && !leftover.is_over() => {}
                Err(err) if err.is(EXISTS) => {
                    return Err(CgroupError::UnitExists { unit: unit.name.clone() });
                }
                Err(err) if err.is_disconnect() && !absence.is_over() => {}
                Err(err) => return Err(unit.failed("start")(err)),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// systemd and gpurun may see different trees, as when one of them is in a container: then
    /// limits would go into directories that nobody is in.
    fn require_member(&self, unit: &Unit, pid: i32) -> Result<(), CgroupError> {
        // On v1 systemd leaves some hierarchies to us; its own is always there.
        let own = self.hierarchies().iter().find(|hierarchy| {
            hierarchy.is_v2() || hierarchy.controllers.iter().any(|name| name == "name=systemd")
        });
        let Some(dir) = own.map(|hierarchy| hierarchy.dir()) else { return Ok(()) };
        if procs::of_dir(&dir).is_ok_and(|pids| pids.contains(&pid)) {
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

    /// Ends the unit and everything in it. One that is gone already is fine. A name is one unit's
    /// whatever its slice: one in another slice, and so in another cgroup, is not this one, and
    /// stays.
    pub(in crate::cgroup) fn stop(&self) -> Result<(), CgroupError> {
        let slice = self.ask("look for", |manager| manager.slice(&self.name))?;
        if slice.is_none_or(|slice| slice != self.slice) {
            return Ok(());
        }
        let gone = |done: Result<(), DbusError>| match done {
            Err(err) if err.is(NO_SUCH_UNIT) => Ok(()),
            done => done,
        };
        self.ask("stop", |manager| gone(manager.stop(&self.name)))?;
        // One that failed, as after the OOM killer, would be kept for somebody to look at.
        self.ask("reset", |manager| gone(manager.reset_failed(&self.name)))
    }

    fn version(&self) -> Result<u32, CgroupError> {
        self.ask("ask systemd's version for", Manager::version)
    }

    /// Asks systemd for something that can be asked twice: again where it has gone away in the
    /// middle, as on daemon-reexec.
    pub(super) fn ask<T>(
        &self,
        action: &'static str,
        mut request: impl FnMut(&mut Manager) -> Result<T, DbusError>,
    ) -> Result<T, CgroupError> {
        let absence = Deadline::after(ABSENCE);
        let mut pause = Duration::from_millis(5);
        loop {
            let answer = Manager::connect(self.instance).and_then(|mut it| request(&mut it));
            match answer {
                Err(err) if err.is_disconnect() && !absence.is_over() => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                answer => return answer.map_err(self.failed(action)),
            }
        }
    }
}
