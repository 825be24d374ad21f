//! How the kernel schedules and places the program: CPUs, scheduler, I/O priority, NUMA memory
//! policy, personality.
//!
//! Most of the calls are libcontainer's; here is what of the spec they can express.

use libcontainer::config::PersonalityDomain;
use libcontainer::process::memory_policy;
use libcontainer::syscall::Syscall;
use libcontainer::syscall::linux::LinuxSyscall;
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, Process, Scheduler,
};

use rustix::thread::CapabilitySet;

use super::affinity::Affinity;
use crate::log;
use crate::sys::sched::{self, SchedAttr};

/// The highest NUMA node that a kernel can have (`MAX_NUMNODES`), so that a policy for node four
/// billion does not become a bitmap of that size.
const MAX_NODE: u64 = 1023;

/// `IOPRIO_CLASS_RT` (linux/ioprio.h).
const IO_CLASS_RT: i64 = 1;

/// A checked part of the spec.
#[derive(Debug)]
pub struct Tuning {
    affinity: Affinity,
    scheduler: Option<SchedAttr>,
    /// Whether the container has a cpuset, for the explanation of an error.
    cpuset: bool,
    io_priority: Option<(i64, i64)>,
    memory_policy: Option<LinuxMemoryPolicy>,
    linux32: Option<bool>,
}

/// What cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum TuningError {
    /// Levels go from 0 to 7.
    #[error("process.ioPriority.priority {0} is outside 0..7")]
    IoPriority(i64),
    /// Values of the scheduler that do not go together.
    #[error("process.scheduler: {0}")]
    Scheduler(String),
    /// A node that no kernel has.
    #[error("linux.memoryPolicy.nodes {0:?}: there is no node above {MAX_NODE}")]
    Node(String),
    /// The kernel refuses.
    #[error("cannot set {field}: {reason}")]
    Refused {
        /// The spec's field.
        field: &'static str,
        /// The reason.
        reason: String,
    },
}

impl Tuning {
    /// Of a container's first process.
    ///
    /// # Errors
    /// A value that cannot be set.
    pub fn new(process: &Process, linux: &Linux) -> Result<Self, TuningError> {
        let memory_policy = linux.memory_policy().clone();
        if let Some(nodes) = memory_policy.as_ref().and_then(|policy| policy.nodes().as_ref()) {
            let numbers = nodes.split([',', '-']).map(|part| part.trim().parse::<u64>());
            if numbers.flatten().any(|node| node > MAX_NODE) {
                return Err(TuningError::Node(nodes.clone()));
            }
        }
        Ok(Self { memory_policy, ..Self::joining(process, linux)? })
    }

    /// Of a process that joins a container: the memory policy is the container's first process's.
    ///
    /// # Errors
    /// A value that cannot be set.
    pub fn joining(process: &Process, linux: &Linux) -> Result<Self, TuningError> {
        let scheduler = process.scheduler().as_ref().map(sched_attr).transpose()?;
        let io_priority = process.io_priority().as_ref().map(|priority| {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => IO_CLASS_RT,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            (class, priority.priority())
        });
        if let Some((_, level)) = io_priority.filter(|(_, level)| !(0..=7).contains(level)) {
            return Err(TuningError::IoPriority(level));
        }
        let linux32 = linux.personality().as_ref().map(|personality| {
            let flags = personality.flags().as_deref().unwrap_or_default();
            if !flags.is_empty() {
                // As runc: the specification defines no flag.
                log::warn(format!("ignoring unsupported personality flags: {flags:?}"));
            }
            personality.domain() == LinuxPersonalityDomain::PerLinux32
        });
        let cpu = linux.resources().as_ref().and_then(|resources| resources.cpu().as_ref());
        let cpuset = cpu.and_then(|cpu| cpu.cpus().as_ref()).is_some_and(|cpus| !cpus.is_empty());
        let affinity = Affinity::All;
        Ok(Self { affinity, scheduler, cpuset, io_priority, memory_policy: None, linux32 })
    }

    /// The same, on other CPUs than all of the cpuset.
    #[must_use]
    pub fn on(self, affinity: Affinity) -> Self {
        Self { affinity, ..self }
    }

    /// The capabilities that [`Tuning::apply`] takes.
    #[must_use]
    pub fn needs(&self) -> CapabilitySet {
        let mut needs = CapabilitySet::empty();
        if self.scheduler.is_some() || self.io_priority.is_some() {
            needs |= CapabilitySet::SYS_NICE;
        }
        if self.io_priority.is_some_and(|(class, _)| class == IO_CLASS_RT) {
            // Before Linux 5.14 nothing less would do.
            needs |= CapabilitySet::SYS_ADMIN;
        }
        needs
    }

    /// Puts the calling process on its CPUs. It must be in its cgroup.
    ///
    /// # Errors
    /// The kernel's.
    pub fn place(&self) -> Result<(), TuningError> {
        match self.affinity.apply() {
            // As runc: a default that cannot be had is no reason to fail.
            Err(err) if self.affinity == Affinity::All => log::warn(format!(
                "cannot reset the CPU affinity: {err}; the container may keep the runtime's"
            )),
            done => {
                done.map_err(|err| refused("process.execCPUAffinity.final", err.to_string()))?;
            }
        }
        Ok(())
    }

    /// Sets the rest of it for the calling process, while that still has its rights.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(&self) -> Result<(), TuningError> {
        if let Some(attr) = &self.scheduler {
            sched::set_scheduler(attr).map_err(|err| {
                let eperm = err.raw_os_error() == Some(libc::EPERM);
                let why = if eperm && self.cpuset {
                    "; process scheduler can't be used together with AllowedCPUs"
                } else if eperm {
                    "; real-time policies need CAP_SYS_NICE on the host, and on cgroup v1 \
                     linux.resources.cpu.realtimeRuntime"
                } else {
                    ""
                };
                refused("process.scheduler", format!("{err}{why}"))
            })?;
        }
        if let Some((class, level)) = self.io_priority {
            LinuxSyscall
                .set_io_priority(class, level)
                .map_err(|err| refused("process.ioPriority", err.to_string()))?;
        }
        if self.memory_policy.is_some() {
            memory_policy::setup_memory_policy(&self.memory_policy, &LinuxSyscall)
                .map_err(|err| refused("linux.memoryPolicy", err.to_string()))?;
        }
        if let Some(linux32) = self.linux32 {
            let domain =
                if linux32 { PersonalityDomain::Linux32 } else { PersonalityDomain::Linux };
            LinuxSyscall
                .personality(domain)
                .map_err(|err| refused("linux.personality", err.to_string()))?;
        }
        Ok(())
    }
}

fn refused(field: &'static str, reason: String) -> TuningError {
    TuningError::Refused { field, reason }
}

/// The kernel's form of `process.scheduler`, checked by the rules of sched_setattr(2).
fn sched_attr(spec: &Scheduler) -> Result<SchedAttr, TuningError> {
    use LinuxSchedulerPolicy as Policy;
    let invalid = |text: String| Err(TuningError::Scheduler(text));
    let policy = spec.policy();
    let (nice, priority) = (spec.nice().unwrap_or(0), spec.priority().unwrap_or(0));
    let times = [spec.runtime(), spec.deadline(), spec.period()].map(|time| time.unwrap_or(0));
    if matches!(policy, Policy::SchedOther | Policy::SchedBatch) && !(-20..=19).contains(&nice) {
        return invalid(format!(
            "invalid scheduler.nice: {nice} when scheduler.policy is {policy}"
        ));
    }
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        return invalid(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy".to_owned(),
        );
    }
    if *policy != Policy::SchedDeadline && times != [0; 3] {
        return invalid(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
                .to_owned(),
        );
    }
    let Ok(priority) = u32::try_from(priority) else {
        return invalid(format!("scheduler.priority {priority} is negative"));
    };
    let flags = spec.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let policy = match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let [runtime, deadline, period] = times;
    Ok(SchedAttr { policy, flags, nice, priority, runtime, deadline, period, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(process: serde_json::Value, linux: serde_json::Value) -> Result<Tuning, TuningError> {
        let mut json = serde_json::json!({"cwd": "/", "user": {"uid": 0, "gid": 0}});
        json.as_object_mut().expect("object").extend(process.as_object().expect("object").clone());
        let process = serde_json::from_value(json).expect("process");
        Tuning::new(&process, &serde_json::from_value(linux).expect("linux"))
    }

    #[test]
    fn absurd_values_are_refused_before_anything_exists() {
        let level = serde_json::json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}});
        assert!(matches!(tuning(level, serde_json::json!({})), Err(TuningError::IoPriority(8))));
        let nodes =
            serde_json::json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-4294967295"}});
        assert!(matches!(tuning(serde_json::json!({}), nodes), Err(TuningError::Node(_))));
        for (scheduler, word) in [
            (serde_json::json!({"policy": "SCHED_OTHER", "nice": 20}), "nice"),
            (serde_json::json!({"policy": "SCHED_BATCH", "priority": 1}), "priority"),
            (serde_json::json!({"policy": "SCHED_RR", "priority": -1}), "negative"),
            (serde_json::json!({"policy": "SCHED_FIFO", "period": 1}), "SchedDeadline"),
        ] {
            let process = serde_json::json!({"scheduler": scheduler});
            let refused = tuning(process, serde_json::json!({})).expect_err("refused").to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
